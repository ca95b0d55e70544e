package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"oprelay/storage/sqldb"
)

// explained has the database explain every statement that a store sends, just
// before it runs: so what is judged is what runs, with its values.
type explained struct {
	explain string // EXPLAIN, as this database has it
	kept    bool   // the plan for all values, instead of that for those that are sent

	mu       sync.Mutex
	prepared int
	plans    map[string]string // by statement
}

// explain lets a store work on, and returns the plans of its statements.
// kept is for the plans that a connection of PostgreSQL keeps for all values.
func explain(t *testing.T, s *Store, url string, kept bool) *explained {
	t.Helper()
	e := &explained{explain: "EXPLAIN ", kept: kept, plans: map[string]string{}}
	if s.Backend() == "sqlite" {
		e.explain = "EXPLAIN QUERY PLAN "
	}
	check(t, s.Close())
	s.db.DB = get(sqldb.Open(sqldb.Config{URL: url, MaxConns: 10, Before: e.note}))(t)
	return e
}

// note keeps the plan of a statement. That of the last time counts, when the tables
// are at their fullest.
func (e *explained) note(ctx context.Context, on sqldb.Querier, query string, args []any) (err error) {
	if strings.HasPrefix(query, "BEGIN") || strings.HasPrefix(query, "SET ") || query == "COMMIT" {
		return nil
	}
	explaining := e.explain + query
	if e.kept && slices.ContainsFunc(args, isLongArray) {
		return nil // planned for its values, and judged where all are
	}
	if e.kept && len(args) > 0 {
		if explaining, err = e.keep(ctx, on, query, len(args)); err != nil {
			return err
		}
		args = nil
	}
	var plan strings.Builder
	_, err = on.Query(ctx, func(row sqldb.Row) error {
		line, err := e.line(row)
		fmt.Fprintln(&plan, line)
		return err
	}, explaining, args...)
	if err != nil {
		return fmt.Errorf("explain: %w\n%s", err, query)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plans[query] = plan.String()
	return nil
}

// line is a line of a plan, which is the last column.
func (e *explained) line(row sqldb.Row) (text string, err error) {
	if e.explain == "EXPLAIN " {
		return sqldb.String(row)
	}
	var id, parent, unused int
	err = row.Scan(&id, &parent, &unused, &text)
	return text, err
}

// isLongArray says whether a statement is planned for this value.
func isLongArray(arg any) bool {
	text, ok := arg.(string)
	return ok && len(text) > 400 && text[0] == '{'
}

// keep prepares a statement and returns what explains the plan that is kept for it,
// which knows of no value.
func (e *explained) keep(ctx context.Context, on sqldb.Querier, query string, args int) (string, error) {
	e.mu.Lock()
	e.prepared++
	name := fmt.Sprint("kept", e.prepared)
	e.mu.Unlock()
	for _, statement := range []string{`SET plan_cache_mode = force_generic_plan`, `PREPARE ` + name + ` AS ` + query} {
		if _, err := sqldb.ExecCount(ctx, on, statement); err != nil {
			return "", fmt.Errorf("%w\n%s", err, query)
		}
	}
	return `EXPLAIN EXECUTE ` + name + ` (NULL` + strings.Repeat(", NULL", args-1) + `)`, nil
}
