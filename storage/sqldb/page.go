package sqldb

import (
	"bytes"
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

// Filter demands that a column has a value; the zero Filter demands nothing.
type Filter struct {
	Column string
	Value  any
	Query  string // if not "": the column has what this query finds by the value, with which it ends
}

func (f Filter) condition(args *Args) string {
	value := args.Add(f.Value)
	if f.Query != "" {
		value = "(" + f.Query + value + ")"
	}
	return f.Column + " = " + value
}

// Listed demands that a row's id is in one of some tables; none demand nothing. Each has an index
// with the ids in their order, by the Always of the list and the Filter.
type Listed struct {
	ID     string // the column of the id
	Tables []ListedIn
}

// ListedIn is a table and which of its rows.
type ListedIn struct {
	Table  string
	Filter Filter
}

// Bounds are ids between which a list is; "" is no bound.
type Bounds struct {
	From   string // the first id of the list's end, inclusive
	Before string // exclusive
}

// PageQuery is a list, newest first.
type PageQuery[T any] struct {
	Selection string // SELECT ... WHERE ...
	Scan      func(Row) (T, error)
	ID        func(T) string
	Key       func(id string) UUID // of an id: what IDColumn has; nothing follows on one that has none
	IDColumn  string
	Always    Filter
	Filters   []Filter
	Listed    Listed
	Bounds    Bounds
	Page      Page
}

// ReadPage reads one page, and one row more to know whether there is a next.
func ReadPage[T any](ctx context.Context, q Querier, list PageQuery[T]) (List[T], error) {
	limit := max(list.Page.Limit, 1)
	var args Args
	conditions := []string{list.Selection, list.conditions(&args, list.Always.Column, list.IDColumn)}
	for _, f := range list.Filters {
		if f.Column != "" {
			conditions = append(conditions, f.condition(&args))
		}
	}
	if len(list.Listed.Tables) > 0 {
		conditions = append(conditions, list.IDColumn+" IN ("+list.idsListed(&args, limit+1)+")")
	}
	query := fmt.Sprintf("%s ORDER BY %s DESC LIMIT %d", strings.Join(conditions, " AND "), list.IDColumn, limit+1)
	rows, err := All(ctx, q, list.Scan, query, args...)
	if err != nil {
		return List[T]{}, err
	}
	return Cut(rows, limit, list.ID), nil
}

// conditions are those on the id and on what all lists demand.
func (list PageQuery[T]) conditions(args *Args, always, id string) string {
	text := Filter{Column: always, Value: list.Always.Value}.condition(args)
	if list.Bounds.Before != "" || list.Page.After != "" {
		text += " AND " + id + " < " + args.Add(list.before())
	}
	if list.Bounds.From != "" {
		text += " AND " + id + " >= " + args.Add(list.Key(list.Bounds.From))
	}
	return text
}

// before is the lesser of the two bounds, which may each be "".
func (list PageQuery[T]) before() UUID {
	bound, after := list.Key(list.Bounds.Before), list.Key(list.Page.After)
	if list.Page.After == "" || list.Bounds.Before != "" && bytes.Compare(bound[:], after[:]) < 0 {
		return bound
	}
	return after
}

// idsListed finds the newest ids of Listed. Each table has its own LIMIT: PostgreSQL would read
// and sort all that there is in them.
func (list PageQuery[T]) idsListed(args *Args, most int) string {
	id := list.Listed.ID
	_, always, _ := strings.Cut(list.Always.Column, ".")
	newest := fmt.Sprintf(" ORDER BY %s DESC LIMIT %d", id, most)
	selects := make([]string, len(list.Listed.Tables))
	for i, in := range list.Listed.Tables {
		where := list.conditions(args, always, id)
		if in.Filter.Column != "" {
			where += " AND " + in.Filter.condition(args)
		}
		selects[i] = "SELECT " + id + " FROM (SELECT " + id + " FROM " + in.Table + " WHERE " + where + newest + ") AS newest"
	}
	return "SELECT " + id + " FROM (" + strings.Join(selects, " UNION ALL ") + newest + ") AS newest"
}

const (
	mostLooked = 4000 // how many rows a page looks at, and up to mostAtOnce more
	mostAtOnce = 500
)

// SearchPage reads a page of the rows that fit from a list in which it looks at each row, a
// bounded number of them: a page may be short, or empty, and yet have a Next.
func SearchPage[T any](page Page, read func(Page) (List[T], error), fits func(T) bool, id func(T) string) (List[T], error) {
	limit := max(page.Limit, 1)
	found := List[T]{Next: page.After}
	for looked, chunk := 0, limit+1; looked < mostLooked; chunk = min(2*chunk, mostAtOnce) {
		rows, err := read(Page{Limit: chunk, After: found.Next})
		if err != nil {
			return List[T]{}, err
		}
		for _, row := range rows.Data {
			if fits(row) {
				found.Data = append(found.Data, row)
			}
		}
		if len(found.Data) > limit {
			return Cut(found.Data, limit, id), nil
		}
		looked += len(rows.Data)
		if found.Next = rows.Next; found.Next == "" {
			break
		}
	}
	return found, nil
}

// Cut makes a page of up to limit rows from rows that may be one more.
func Cut[T any](rows []T, limit int, id func(T) string) List[T] {
	if len(rows) <= limit {
		return List[T]{Data: rows}
	}
	return List[T]{Data: rows[:limit], Next: id(rows[limit-1])}
}
