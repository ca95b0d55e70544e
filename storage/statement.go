package storage

import (
	"context"
	"slices"
	"strconv"
	"strings"
)

// maxRows is how many rows one statement takes at most: enough for all that the
// relay does at once.
const maxRows = 10000

// arguments collects the parameters of a statement while it is written.
type arguments []any

// add appends a parameter and returns its placeholder.
func (a *arguments) add(value any) string {
	*a = append(*a, value)
	return "$" + strconv.Itoa(len(*a))
}

// list appends parameters and returns their placeholders, for IN (...).
func (a *arguments) list(values []string) string {
	if len(values) == 0 {
		return "NULL" // IN (NULL) holds for no row
	}
	holders := make([]string, len(values))
	for i, value := range values {
		holders[i] = a.add(value)
	}
	return strings.Join(holders, ", ")
}

// tuples appends rows of parameters and returns them for VALUES. They go by their
// order alone, so no other parameter may come before them in the statement but not
// in the arguments: SQLite looks a name up among all before it, twice.
func (a *arguments) tuples(rows [][]any) string {
	tuples := make([]string, len(rows))
	for i, row := range rows {
		*a = append(*a, row...)
		tuples[i] = "(?" + strings.Repeat(", ?", len(row)-1) + ")"
	}
	return strings.Join(tuples, ", ")
}

// rowsAtOnce is how many rows of so many columns one statement takes.
func (d dialect) rowsAtOnce(columns int) int {
	if d.arrays() {
		return maxRows
	}
	return max(d.maxParameters/columns, 1)
}

// in is the condition that a column has one of the values, which are one parameter.
func (d dialect) in(a *arguments, column string, values []string) string {
	switch {
	case d.arrays() && len(values) == 1:
		return column + " = " + a.add(values[0])
	case d.arrays():
		return column + " = ANY (" + a.add(textArray(values)) + ")"
	}
	return column + " IN (SELECT value FROM json_each(" + a.add(jsonArray(values)) + "))"
}

// insertion is what follows INSERT INTO table (columns): the rows to insert.
func (d dialect) insertion(a *arguments, rows [][]any) string {
	if d.arrays() {
		return " SELECT " + columnNames(len(rows[0])) + " FROM " + d.values(a, rows)
	}
	return " VALUES " + a.tuples(rows)
}

// values is a table v of the rows, whose columns are column1 and so on.
func (d dialect) values(a *arguments, rows [][]any) string {
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

// insertRows inserts later, in as few statements as there may be: head names the table
// and the columns.
func (tx *transaction) insertRows(head string, rows [][]any) error {
	return tx.insertChunks(rows, func(args *arguments, chunk [][]any) string {
		return head + tx.db.dialect.insertion(args, chunk)
	})
}

// insertFrom is insertRows of what is selected from the rows, by column1 and so on.
func (tx *transaction) insertFrom(head, selected string, rows [][]any) error {
	return tx.insertChunks(rows, func(args *arguments, chunk [][]any) string {
		return head + " SELECT " + selected + " FROM " + tx.db.dialect.values(args, chunk)
	})
}

func (tx *transaction) insertChunks(rows [][]any, write func(args *arguments, chunk [][]any) string) error {
	if len(rows) == 0 {
		return nil
	}
	for chunk := range slices.Chunk(rows, tx.db.dialect.rowsAtOnce(len(rows[0]))) {
		var args arguments
		query := write(&args, chunk)
		if err := tx.wire.later(tx.ctx, statement{query: query, args: args}); err != nil {
			return err
		}
	}
	return nil
}

// updateRows updates many rows later, each from its row of values, which the statement
// names v.column1 and so on. What it RETURNs goes to scan, by the end of the next query.
func (tx *transaction) updateRows(update rowsUpdate) error {
	if len(update.rows) == 0 {
		return nil
	}
	for chunk := range slices.Chunk(update.rows, tx.db.dialect.rowsAtOnce(len(update.rows[0])+1)) {
		var args arguments
		query := update.head + " FROM " + tx.db.dialect.values(&args, chunk) + " " + update.tail +
			" AND " + update.key + " = v.column1" + tx.db.dialect.named(&args, update.key, chunk) + update.returning
		if err := tx.wire.later(tx.ctx, statement{query: query, args: tx.db.dialect.planned(args), each: update.scan}); err != nil {
			return err
		}
	}
	return nil
}

// named repeats the keys of the rows for SQLite, which looks the rows up by them;
// it would scan the table to join it with values. PostgreSQL is better off without:
// it goes by the keys once, and then compares each row with each of the values.
func (d dialect) named(a *arguments, key string, rows [][]any) string {
	if d.arrays() {
		return ""
	}
	for _, row := range rows {
		*a = append(*a, row[0])
	}
	return " AND " + key + " IN (?" + strings.Repeat(", ?", len(rows)-1) + ")"
}

// rowsUpdate is an UPDATE of many rows at once.
type rowsUpdate struct {
	head string // UPDATE table SET column = v.column2
	key  string // the column that the first value must equal
	rows [][]any
	tail string // WHERE ..., what else must hold

	returning string
	scan      func(scanner) error
}

// queryAll reads all rows of a query.
func queryAll[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var all []T
	err := q.query(ctx, func(row scanner) error {
		one, err := scan(row)
		all = append(all, one)
		return err
	}, query, args...)
	return all, err
}

// queryOne reads the one row of a query; ErrNotFound if there is none.
func queryOne[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var one T
	err := ErrNotFound
	if failed := q.query(ctx, func(row scanner) error {
		one, err = scan(row)
		return err
	}, query, args...); failed != nil {
		return one, failed
	}
	return one, err
}

// exec runs a statement that must change a row; ErrNotFound if it changed none.
func exec(ctx context.Context, q executor, query string, args ...any) error {
	n, err := execCount(ctx, q, query, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// execCount runs a statement and says how many rows it changed.
func execCount(ctx context.Context, q executor, query string, args ...any) (int, error) {
	result, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}
