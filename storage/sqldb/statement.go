package sqldb

import (
	"context"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// maxRows is how many rows one statement takes at most: enough for all that the
// relay does at once.
const maxRows = 10000

// Args collects the parameters of a statement while it is written.
type Args []any

// Add appends a parameter and returns its placeholder.
func (a *Args) Add(value any) string {
	*a = append(*a, value)
	return "$" + strconv.Itoa(len(*a))
}

// List appends parameters and returns their placeholders, for IN (...).
func (a *Args) List(values []string) string {
	if len(values) == 0 {
		return "NULL" // IN (NULL) holds for no row
	}
	holders := make([]string, len(values))
	for i, value := range values {
		holders[i] = a.Add(value)
	}
	return strings.Join(holders, ", ")
}

// tuples appends rows of parameters and returns them for VALUES. They go by their
// order alone, so no other parameter may come before them in the statement but not
// in the Args: SQLite looks a name up among all before it, twice.
func (a *Args) tuples(rows [][]any) string {
	tuples := make([]string, len(rows))
	for i, row := range rows {
		*a = append(*a, row...)
		tuples[i] = "(?" + strings.Repeat(", ?", len(row)-1) + ")"
	}
	return strings.Join(tuples, ", ")
}

// RowsAtOnce is how many rows of so many columns one statement takes.
func (d *Dialect) RowsAtOnce(columns int) int {
	if d.arrays() {
		return maxRows
	}
	return max(d.maxParameters/columns, 1)
}

// In is the condition that a column has one of the values, which are one parameter.
func (d *Dialect) In(a *Args, column string, values []UUID) string {
	if d.arrays() {
		return isAny(a, column, values)
	}
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = hex.EncodeToString(value[:])
	}
	return column + " IN (SELECT unhex(value) FROM json_each(" + a.Add(jsonArray(texts)) + "))"
}

// InTexts is In for texts.
func (d *Dialect) InTexts(a *Args, column string, values []string) string {
	return in(d, a, column, values)
}

// InNumbers is In for numbers.
func (d *Dialect) InNumbers(a *Args, column string, values []*int64) string {
	return in(d, a, column, values)
}

func in[T string | *int64](d *Dialect, a *Args, column string, values []T) string {
	if d.arrays() {
		return isAny(a, column, values)
	}
	return column + " IN (SELECT value FROM json_each(" + a.Add(jsonArray(values)) + "))"
}

func isAny[T string | UUID | *int64](a *Args, column string, values []T) string {
	if len(values) == 1 {
		return column + " = " + a.Add(values[0])
	}
	return column + " = ANY (" + a.Add(values) + ")"
}

// Insertion is what follows INSERT INTO table (columns): the rows to insert.
func (d *Dialect) Insertion(a *Args, rows [][]any) string {
	if d.arrays() {
		return " SELECT " + columnNames(len(rows[0])) + " FROM " + d.Values(a, rows)
	}
	return " VALUES " + a.tuples(rows)
}

// Values is a table v of the rows, whose columns are column1 and so on.
func (d *Dialect) Values(a *Args, rows [][]any) string {
	switch {
	case d.arrays() && len(rows) == 1:
		return "(VALUES " + a.typed(rows[0]) + ") AS v"
	case d.arrays():
		return "unnest(" + a.arrays(rows) + ") AS v (" + columnNames(len(rows[0])) + ")"
	}
	return "(VALUES " + a.tuples(rows) + ") AS v"
}

// columnNames is what SQLite and PostgreSQL call the n columns of VALUES.
func columnNames(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = "column" + strconv.Itoa(i+1)
	}
	return strings.Join(names, ", ")
}

// InsertRows inserts later, in as few statements as there may be: head names the table
// and the columns. The rows must stay as they are until the transaction ends, here and below.
func (tx *Tx) InsertRows(head string, rows [][]any) error {
	return tx.insertChunks(rows, nil, func(args *Args, chunk [][]any) string {
		return head + tx.Insertion(args, chunk)
	})
}

// InsertFrom is InsertRows of what is selected from the rows, by column1 and so on.
func (tx *Tx) InsertFrom(head, selected string, rows [][]any) error {
	return tx.insertChunks(rows, nil, func(args *Args, chunk [][]any) string {
		return head + " SELECT " + selected + " FROM " + tx.Values(args, chunk)
	})
}

// Upsert is InsertRows with an ON CONFLICT. What that RETURNs goes to scan, by the end of the next query.
func (tx *Tx) Upsert(head, onConflict string, rows [][]any, scan func(Row) error) error {
	return tx.insertChunks(rows, scan, func(args *Args, chunk [][]any) string {
		return head + tx.Insertion(args, chunk) + onConflict
	})
}

func (tx *Tx) insertChunks(rows [][]any, scan func(Row) error, write func(args *Args, chunk [][]any) string) error {
	if len(rows) == 0 {
		return nil
	}
	for chunk := range slices.Chunk(rows, tx.RowsAtOnce(len(rows[0]))) {
		var args Args
		query := write(&args, chunk)
		if err := tx.add(statement{query: query, args: args, each: scan}, false); err != nil {
			return err
		}
	}
	return nil
}

// RowsUpdate is an UPDATE of many rows at once.
type RowsUpdate struct {
	Head string // UPDATE table SET column = v.column2
	Key  string // the column that the first value must equal
	Rows [][]any
	Tail string // WHERE ..., what else must hold

	Returning string
	Scan      func(Row) error
}

// UpdateRows updates many rows later, each from its row of values, which the statement
// names v.column1 and so on. What it RETURNs goes to Scan, by the end of the next query.
func (tx *Tx) UpdateRows(update RowsUpdate) error {
	if len(update.Rows) == 0 {
		return nil
	}
	for chunk := range slices.Chunk(update.Rows, tx.RowsAtOnce(len(update.Rows[0])+1)) {
		var args Args
		query := update.Head + " FROM " + tx.Values(&args, chunk) + " " + update.Tail +
			" AND " + update.Key + " = v.column1" + tx.named(&args, update.Key, chunk) + update.Returning
		if err := tx.LaterScan(update.Scan, query, args...); err != nil {
			return err
		}
	}
	return nil
}

// named repeats the keys of the rows for SQLite, which looks the rows up by them;
// it would scan the table to join it with values. PostgreSQL is better off without:
// it goes by the keys once, and then compares each row with each of the values.
func (d *Dialect) named(a *Args, key string, rows [][]any) string {
	if d.arrays() {
		return ""
	}
	for _, row := range rows {
		*a = append(*a, row[0])
	}
	return " AND " + key + " IN (?" + strings.Repeat(", ?", len(rows)-1) + ")"
}

// Querier is a DB or a Tx.
type Querier interface {
	// Query runs a statement, has each called with its rows (nil for nobody), and says how
	// many it returned or changed.
	Query(ctx context.Context, each func(Row) error, query string, args ...any) (int, error)
}

// All reads all rows of a query.
func All[T any](ctx context.Context, q Querier, scan func(Row) (T, error), query string, args ...any) ([]T, error) {
	var all []T
	_, err := q.Query(ctx, func(row Row) error {
		one, err := scan(row)
		all = append(all, one)
		return err
	}, query, args...)
	return all, err
}

// One reads the one row of a query; ErrNotFound if there is none.
func One[T any](ctx context.Context, q Querier, scan func(Row) (T, error), query string, args ...any) (T, error) {
	var one T
	err := ErrNotFound
	if _, failed := q.Query(ctx, func(row Row) error {
		one, err = scan(row)
		return err
	}, query, args...); failed != nil {
		return one, failed
	}
	return one, err
}

// Exec runs a statement that must change a row; ErrNotFound if it changed none.
func Exec(ctx context.Context, q Querier, query string, args ...any) error {
	n, err := ExecCount(ctx, q, query, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// ExecCount runs a statement and says how many rows it changed.
func ExecCount(ctx context.Context, q Querier, query string, args ...any) (int, error) {
	return q.Query(ctx, nil, query, args...)
}
