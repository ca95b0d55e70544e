package storage

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// SealedRow names a row that holds something sealed.
type SealedRow struct{ Table, ID string }

// String is the row as messages name it.
func (r SealedRow) String() string { return r.Table + " " + r.ID }

// UnopenedRow is a row whose secret the key ring does not open, and why.
type UnopenedRow struct {
	SealedRow

	Err error
}

// ResealOptions are options of Reseal.
type ResealOptions struct {
	// Forget empties secrets that the key ring does not open, because their key is lost. The
	// credential or destination stays, to be listed and deleted.
	Forget bool
	// Progress is told after each chunk how many rows were seen so far. It may be nil.
	Progress func(rows int)
}

// ResealPass is the result of one Reseal.
type ResealPass struct {
	Key       string         // the id of the first key, which seals
	Rows      int            // how many were seen
	Resealed  int            // how many of them the first key seals now, and did not before
	Overtaken int            // how many were changed or deleted meanwhile, for another pass to see
	PerKey    map[string]int // how many rows each key seals, by its id; "" for what was not sealed by the relay
	Unopened  []UnopenedRow  // left as they are, or forgotten
	Forgotten int
	Unused    []string // ids of keys that seal nothing, without the first
}

// Reseal reads all that is sealed, and seals with the first key of the ring what another key
// has sealed. Others may use and change the rows meanwhile: a row is written only if it still
// holds the value that was read (no two seals are the same bytes), and a few at a time. No
// mark says how far it is, so it may be killed at any moment and run again. It may miss what
// is sealed meanwhile: all is done when a pass changes nothing.
func (s *Store) Reseal(ctx context.Context, options ResealOptions) (ResealPass, error) {
	pass := ResealPass{Key: s.db.keys.First(), PerKey: map[string]int{}}
	for _, table := range sealedTables() {
		err := table.walk(ctx, s.reader(), func(values []sealedValue) error {
			changes := s.resealAll(table, values, options.Forget, &pass)
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
	for _, id := range s.db.keys.IDs() {
		if id != pass.Key && pass.PerKey[id] == 0 {
			pass.Unused = append(pass.Unused, id)
		}
	}
	return pass, nil
}

// change replaces a sealed value.
type change struct {
	sealedValue

	next []byte
}

// resealAll returns the changes of a table's values, and counts the values that need none.
func (s *Store) resealAll(table sealedTable, values []sealedValue, forget bool, pass *ResealPass) []change {
	var changes []change
	for _, v := range values {
		if len(v.sealed) == 0 {
			continue // forgotten
		}
		pass.Rows++
		next, err := s.db.keys.Reseal(table.place(v.key), v.sealed)
		if err != nil {
			pass.Unopened = append(pass.Unopened, UnopenedRow{table.row(v), err})
			if next = v.sealed; forget && table.forgettable {
				next = []byte{}
			}
		}
		if bytes.Equal(next, v.sealed) {
			pass.PerKey[seal.SealedWith(v.sealed)]++
			continue
		}
		changes = append(changes, change{v, next})
	}
	return changes
}

// swap writes the new values where the old ones still stand, and says where. It goes by the
// order of the key, which is that of locks.
func (s *Store) swap(ctx context.Context, table sealedTable, changes []change) (written []bool, err error) {
	if len(changes) == 0 {
		return nil, nil
	}
	err = s.write(ctx, func(tx *transaction) error {
		written = make([]bool, len(changes))
		for i, c := range changes {
			var args sqldb.Args
			set := table.column + ` = ` + args.Add(c.next)
			where := []string{table.column + ` = ` + args.Add(c.sealed)}
			for j, value := range table.args(c.key) {
				where = append(where, table.key[j]+` = `+args.Add(value))
			}
			query := `UPDATE ` + table.name + ` SET ` + set + ` WHERE ` + strings.Join(where, ` AND `)
			n, err := sqldb.ExecCount(ctx, tx, query, args...)
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

// resealChunk is how many rows are read and written at a time: so few that nobody waits long
// for them.
const resealChunk = 100

// sealedTable is a table with a column of sealed values. All of them are in sealedTables.
type sealedTable struct {
	name   string
	key    []string // the columns of the primary key, of which the first is an id
	id     idColumn // that
	column string
	where  string // which rows have one
	place  func(key []string) string
	// forgettable says that a row may stay without its secret, to be deleted.
	forgettable bool
}

// idColumn is a prefix or a tenantPrefix.
type idColumn interface {
	value(id string) any
	least() any
	scan(into *string) sql.Scanner
}

func sealedTables() []sealedTable {
	byID := func(place func(id string) string) func([]string) string {
		return func(key []string) string { return place(key[0]) }
	}
	return []sealedTable{
		{
			name: "credentials", key: []string{"id"}, id: prefixCredential, column: "secret", where: "deleted_at IS NULL",
			place: byID(credentialSecret), forgettable: true,
		},
		{
			name: "destinations", key: []string{"id"}, id: prefixDestination, column: "secret", where: "deleted_at IS NULL",
			place: byID(destinationSecret), forgettable: true,
		},
		{
			name: "idempotency_keys", key: []string{"tenant_id", "key"}, id: prefixTenant, column: "answer", where: "answer IS NOT NULL",
			place: func(key []string) string { return answerSeal(IdempotencyKey{TenantID: key[0], Key: key[1]}) },
		},
	}
}

// sealedValue is a value with the key of its row.
type sealedValue struct {
	key    []string
	sealed []byte
}

// row names a row in errors. An idempotency key is the client's own text, so it is quoted.
func (t sealedTable) row(v sealedValue) SealedRow {
	id := v.key[0]
	if len(v.key) > 1 {
		id += fmt.Sprintf(" %q", v.key[1])
	}
	return SealedRow{t.name, id}
}

// args is a row's key for SQL.
func (t sealedTable) args(key []string) []any {
	args := []any{t.id.value(key[0])}
	for _, text := range key[1:] {
		args = append(args, text)
	}
	return args
}

// walk reads the table in the order of its key, a chunk at a time.
func (t sealedTable) walk(ctx context.Context, q sqldb.Querier, each func([]sealedValue) error) error {
	columns := strings.Join(t.key, ", ")
	scan := func(row sqldb.Row) (sealedValue, error) {
		v := sealedValue{key: make([]string, len(t.key))}
		into := []any{t.id.scan(&v.key[0])}
		for i := range v.key[1:] {
			into = append(into, &v.key[1+i])
		}
		err := row.Scan(append(into, &v.sealed)...)
		return v, err
	}
	after := t.args(make([]string, len(t.key)))
	after[0] = t.id.least()
	for {
		var args sqldb.Args
		holders := make([]string, len(t.key))
		for i, value := range after {
			holders[i] = args.Add(value)
		}
		values, err := sqldb.All(ctx, q, scan, `SELECT `+columns+`, `+t.column+` FROM `+t.name+
			` WHERE `+t.where+` AND (`+columns+`) > (`+strings.Join(holders, ", ")+`) ORDER BY `+columns+
			` LIMIT `+args.Add(resealChunk), args...)
		if err != nil || len(values) == 0 {
			return err
		}
		if err := each(values); err != nil {
			return err
		}
		after = t.args(values[len(values)-1].key)
	}
}

// checkedKey is what opening all that a key has sealed shows of it.
type checkedKey struct {
	opened bool
	failed []string // rows
	err    error
}

// CheckKeys is an error that names the keys that are missing or wrong, and some rows that they
// sealed. A key that opens one of its rows is right: the others are damaged, which matters
// only where they are used. Answers, which are kept for a day, are left out.
func (s *Store) CheckKeys(ctx context.Context) error {
	keys := map[string]*checkedKey{}
	for _, table := range sealedTables() {
		if !table.forgettable {
			continue
		}
		err := table.walk(ctx, s.reader(), func(values []sealedValue) error {
			for _, v := range values {
				id := seal.SealedWith(v.sealed)
				if keys[id] == nil {
					keys[id] = &checkedKey{opened: id == ""} // "": damaged or forgotten
				}
				if _, err := s.db.keys.Open(table.place(v.key), v.sealed); err != nil {
					keys[id].failed, keys[id].err = append(keys[id].failed, table.row(v).String()), err
				} else {
					keys[id].opened = true
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("check the encryption keys: %w", err)
		}
	}
	var faults []error
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		if k := keys[id]; !k.opened {
			faults = append(faults, fmt.Errorf("%w (%s)", k.err, few(k.failed)))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("the encryption keys do not open what the database holds: %w", err)
	}
	return nil
}

// few names the first of the rows, and how many more there are.
func few(rows []string) string {
	const most = 3
	if len(rows) <= most {
		return strings.Join(rows, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(rows[:most], ", "), len(rows)-most)
}
