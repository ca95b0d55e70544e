package storage

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
)

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

// rows appends rows of parameters and returns them for VALUES. The first row is
// cast to the types, if given: PostgreSQL takes a bare parameter there as text.
func (a *arguments) rows(types []string, rows [][]any) string {
	var text strings.Builder
	for i, row := range rows {
		if i > 0 {
			text.WriteString(", ")
		}
		for j, value := range row {
			text.WriteString([2]string{", ", "("}[btoi(j == 0)])
			if i == 0 && types != nil {
				text.WriteString("CAST(" + a.add(value) + " AS " + types[j] + ")")
			} else {
				text.WriteString(a.add(value))
			}
		}
		text.WriteString(")")
	}
	return text.String()
}

// firsts is the first placeholder of each row, when n rows are all there is. With
// these in an IN, SQLite looks rows up by key; it would scan the table to join them.
func (a *arguments) firsts(n int) string {
	holders := make([]string, n)
	for i := range holders {
		holders[i] = "$" + strconv.Itoa(1+i*len(*a)/n)
	}
	return strings.Join(holders, ", ")
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// insertRows inserts in as few statements as there may be: head, VALUES, tail.
func (tx *transaction) insertRows(ctx context.Context, head string, rows [][]any, tail string) error {
	if len(rows) == 0 {
		return nil
	}
	for chunk := range slices.Chunk(rows, tx.db.dialect.maxParameters/len(rows[0])) {
		var args arguments
		if _, err := tx.ExecContext(ctx, head+args.rows(nil, chunk)+tail, args...); err != nil {
			return err
		}
	}
	return nil
}

// updateRows updates many rows at once, each from its row of values, which the
// statement names v.column1 and so on. What it RETURNs goes to scan.
func (tx *transaction) updateRows(ctx context.Context, update rowsUpdate) error {
	if len(update.rows) == 0 {
		return nil
	}
	for chunk := range slices.Chunk(update.rows, tx.db.dialect.maxParameters/len(update.rows[0])) {
		var args arguments
		query := update.head + " FROM (VALUES " + args.rows(update.types, chunk) + ") AS v " + update.tail +
			" AND " + update.key + " = v.column1 AND " + update.key + " IN (" + args.firsts(len(chunk)) + ")" + update.returning
		if _, err := queryAll(ctx, tx, update.scan, query, args...); err != nil {
			return err
		}
	}
	return nil
}

// rowsUpdate is an UPDATE of many rows at once.
type rowsUpdate struct {
	head      string   // UPDATE table SET column = v.column2
	key       string   // the column that the first value must equal
	types     []string // SQL types of the values
	rows      [][]any
	tail      string // WHERE ..., what else must hold
	returning string
	scan      func(scanner) (struct{}, error)
}

// queryAll reads all rows of a query.
func queryAll[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// queryOne reads the one row of a query; ErrNotFound if there is none.
func queryOne[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	one, err := scan(q.QueryRowContext(ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return one, ErrNotFound
	}
	return one, err
}

// exec runs a statement that must change a row; ErrNotFound if it changed none.
func exec(ctx context.Context, q querier, query string, args ...any) error {
	n, err := execCount(ctx, q, query, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// execCount runs a statement and says how many rows it changed.
func execCount(ctx context.Context, q querier, query string, args ...any) (int, error) {
	result, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}
