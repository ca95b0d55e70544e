package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// resealChunk is how many sealed rows are read, and written, at a time: so few
// that nobody waits long for them.
const resealChunk = 100

// sealedTable is where sealed values are kept. There is no other place; a column
// that is to hold one is added here.
type sealedTable struct {
	name   string
	key    []string // the columns of the primary key
	column string
	where  string // which rows have one
	place  func(key []string) string
	// forgettable says that a row makes sense without its secret, as something to
	// be deleted.
	forgettable bool
}

func sealedTables() []sealedTable {
	byID := func(place func(id string) string) func([]string) string {
		return func(key []string) string { return place(key[0]) }
	}
	return []sealedTable{
		{
			name: "credentials", key: []string{"id"}, column: "secret", where: "deleted_at IS NULL",
			place: byID(credentialSecret), forgettable: true,
		},
		{
			name: "destinations", key: []string{"id"}, column: "secret", where: "deleted_at IS NULL",
			place: byID(destinationSecret), forgettable: true,
		},
		{
			name: "idempotency_keys", key: []string{"tenant_id", "key"}, column: "answer", where: "answer IS NOT NULL",
			place: func(key []string) string { return answerSeal(IdempotencyKey{TenantID: key[0], Key: key[1]}) },
		},
	}
}

// sealedValue is one of a table, with its row's key.
type sealedValue struct {
	key    []string
	sealed []byte
}

// row names a value's row in errors. An idempotency key is the client's own text,
// so it is quoted.
func (t sealedTable) row(v sealedValue) SealedRow {
	id := v.key[0]
	if len(v.key) > 1 {
		id += fmt.Sprintf(" %q", v.key[1])
	}
	return SealedRow{t.name, id}
}

// walk reads the table in the order of its key, a chunk at a time.
func (t sealedTable) walk(ctx context.Context, q querier, visit func([]sealedValue) error) error {
	columns := strings.Join(t.key, ", ")
	scan := func(row scanner) (sealedValue, error) {
		v := sealedValue{key: make([]string, len(t.key))}
		into := make([]any, 0, len(t.key)+1)
		for i := range v.key {
			into = append(into, &v.key[i])
		}
		err := row.Scan(append(into, &v.sealed)...)
		return v, err
	}
	for after := make([]string, len(t.key)); ; {
		var args arguments
		values, err := queryAll(ctx, q, scan, `SELECT `+columns+`, `+t.column+` FROM `+t.name+
			` WHERE `+t.where+` AND (`+columns+`) > (`+args.list(after)+`) ORDER BY `+columns+
			` LIMIT `+args.add(resealChunk), args...)
		if err != nil || len(values) == 0 {
			return err
		}
		if err := visit(values); err != nil {
			return err
		}
		after = values[len(values)-1].key
	}
}

// checkedKey is what is known of a key after a look at all that it sealed.
type checkedKey struct {
	opened bool
	failed []string // rows
	err    error
}

// CheckKeys says which keys are missing or wrong, and which rows they sealed. A
// key that opens some of what it sealed is the right one: what it does not open is
// damaged, which is that row's trouble alone, at its use. Answers that are kept for
// a day are left out.
func (s *Store) CheckKeys(ctx context.Context) error {
	keys := map[string]*checkedKey{}
	for _, table := range sealedTables() {
		if !table.forgettable {
			continue
		}
		err := table.walk(ctx, s.reader(), func(values []sealedValue) error {
			for _, v := range values {
				id := sealedWith(v.sealed)
				if keys[id] == nil {
					keys[id] = &checkedKey{opened: id == ""} // damaged, or forgotten
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
