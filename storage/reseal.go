package storage

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// SealedRow names a row that holds something sealed.
type SealedRow struct{ Table, ID string }

// String is the row as messages name it.
func (r SealedRow) String() string { return r.Table + " " + r.ID }

// UnopenedRow is a row that the keyring does not open, and why.
type UnopenedRow struct {
	SealedRow

	Err error
}

// ResealOptions says how to go over what is sealed.
type ResealOptions struct {
	// Forget empties the secrets that the keyring does not open, which are lost if
	// their key is. The credential or destination stays, of no use until it is deleted.
	Forget bool
	// Progress is told after each chunk how many rows were seen so far. It may be nil.
	Progress func(rows int)
}

// ResealPass is what came of going once over all that is sealed.
type ResealPass struct {
	Key       string         // the first key's id, which seals
	Rows      int            // that were seen
	Resealed  int            // of these, how many are sealed under the first key now, and were not before
	Overtaken int            // that were changed or deleted in between, and have to be looked at again
	PerKey    map[string]int // how many rows each key seals, by id; "" for what the relay has not sealed
	Unopened  []UnopenedRow  // left as they are, or forgotten
	Forgotten int
	Unused    []string // ids of keys of the ring that seal nothing, but for the first
}

// Reseal goes once over all that is sealed and seals under the keyring's first key
// what is sealed under another. Others may use and change the rows meanwhile: a row
// is written only if it is still sealed as it was read, and a few at a time. So it
// may be killed at any moment, and run again. It may miss what others seal at the
// same time: all is done when a pass changes nothing.
func (s *Store) Reseal(ctx context.Context, options ResealOptions) (ResealPass, error) {
	pass := ResealPass{Key: s.db.keys.first, PerKey: map[string]int{}}
	for _, table := range sealedTables() {
		err := table.walk(ctx, s.reader(), func(values []sealedValue) error {
			changes := s.db.keys.resealAll(table, values, options.Forget, &pass)
			written, err := s.swap(ctx, table, changes)
			if err != nil {
				return err
			}
			pass.count(changes, written)
			if options.Progress != nil {
				options.Progress(pass.Rows)
			}
			return nil
		})
		if err != nil {
			return pass, fmt.Errorf("re-seal %s: %w", table.name, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.db.keys.keys)) {
		if id != pass.Key && pass.PerKey[id] == 0 {
			pass.Unused = append(pass.Unused, id)
		}
	}
	return pass, nil
}

// change is what is to take the place of a sealed value.
type change struct {
	sealedValue

	next []byte
}

// resealAll is what is to be changed of a table's values. It counts the others.
func (k *Keyring) resealAll(table sealedTable, values []sealedValue, forget bool, pass *ResealPass) []change {
	var changes []change
	for _, v := range values {
		if len(v.sealed) == 0 {
			continue // forgotten
		}
		pass.Rows++
		next, err := k.reseal(table.place(v.key), v.sealed)
		if err != nil {
			pass.Unopened = append(pass.Unopened, UnopenedRow{table.row(v), err})
			if next = v.sealed; forget && table.forgettable {
				next = []byte{}
			}
		}
		if bytes.Equal(next, v.sealed) {
			pass.PerKey[sealedWith(v.sealed)]++
			continue
		}
		changes = append(changes, change{v, next})
	}
	return changes
}

// reseal is the value sealed under the first key: itself, if it is so already.
func (k *Keyring) reseal(additional string, sealed []byte) ([]byte, error) {
	plain, err := k.Open(additional, sealed)
	if err != nil || sealedWith(sealed) == k.first {
		return sealed, err
	}
	return k.Seal(additional, plain)
}

// swap writes the values in whose place nobody has written meanwhile, and says
// which. It goes row by row in the order of the key, and so keeps to the order of
// locks.
func (s *Store) swap(ctx context.Context, table sealedTable, changes []change) (written []bool, err error) {
	if len(changes) == 0 {
		return nil, nil
	}
	err = s.write(ctx, func(tx *transaction) error {
		written = make([]bool, len(changes))
		for i, c := range changes {
			var args arguments
			set := table.column + ` = ` + args.add(c.next)
			where := []string{table.column + ` = ` + args.add(c.sealed)}
			for j, column := range table.key {
				where = append(where, column+` = `+args.add(c.key[j]))
			}
			query := `UPDATE ` + table.name + ` SET ` + set + ` WHERE ` + strings.Join(where, ` AND `)
			n, err := execCount(ctx, tx, query, args...)
			if err != nil {
				return err
			}
			written[i] = n > 0
		}
		return nil
	})
	return written, err
}

func (p *ResealPass) count(changes []change, written []bool) {
	for i, c := range changes {
		switch {
		case !written[i]:
			p.Overtaken++
		case len(c.next) == 0:
			p.Forgotten++
		default:
			p.Resealed++
			p.PerKey[p.Key]++
		}
	}
}
