package storage

import (
	"context"
	"fmt"
	"strings"
)

// Page says which part of a list is asked for.
type Page struct {
	Limit int    // at least 1
	After string // the id of the last row seen; "" starts with the newest
}

// List is one page of rows.
type List[T any] struct {
	Data []T
	Next string // the id to pass as Page.After; "" when there is no more
}

// filter demands that a column has a value; "" demands nothing.
type filter struct {
	column, value string
	query         string // if not "": the column has what this query finds by the value, with which it ends
}

func (f filter) condition(args *arguments) string {
	value := args.add(f.value)
	if f.query != "" {
		value = "(" + f.query + value + ")"
	}
	return f.column + " = " + value
}

// pageQuery is a list, newest first.
type pageQuery[T any] struct {
	selection string // SELECT ... WHERE ...
	scan      func(scanner) (T, error)
	id        func(T) string
	idColumn  string
	tenant    filter // always demanded
	filters   []filter
	page      Page
}

// queryPage reads one page, and one row more to know whether there is a next.
func queryPage[T any](ctx context.Context, q querier, list pageQuery[T]) (List[T], error) {
	var args arguments
	conditions := []string{list.selection, list.tenant.condition(&args)}
	for _, f := range list.filters {
		if f.value != "" {
			conditions = append(conditions, f.condition(&args))
		}
	}
	if list.page.After != "" {
		conditions = append(conditions, list.idColumn+" < "+args.add(list.page.After))
	}
	limit := max(list.page.Limit, 1)
	query := fmt.Sprintf("%s ORDER BY %s DESC LIMIT %d", strings.Join(conditions, " AND "), list.idColumn, limit+1)
	rows, err := queryAll(ctx, q, list.scan, query, args...)
	if err != nil {
		return List[T]{}, err
	}
	return cut(rows, limit, list.id), nil
}

// cut makes a page of up to limit rows from rows that may be one more.
func cut[T any](rows []T, limit int, id func(T) string) List[T] {
	if len(rows) <= limit {
		return List[T]{Data: rows}
	}
	return List[T]{Data: rows[:limit], Next: id(rows[limit-1])}
}
