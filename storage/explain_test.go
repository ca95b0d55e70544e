package storage

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// explained has the database explain every statement that a store sends, just
// before it runs: so what is judged is what runs, with its values.
type explained struct {
	driver.Connector

	explain  string // EXPLAIN, as this database has it
	kept     bool   // the plan for all values, instead of that for those that are sent
	prepared atomic.Int64
	mu       *sync.Mutex
	plans    map[string]string // by statement
}

// explain lets a store work on, and returns the plans of its statements.
// kept is for the plans that a connection of PostgreSQL keeps for all values.
func explain(t *testing.T, s *Store, url string, kept bool) *explained {
	t.Helper()
	e := &explained{explain: "EXPLAIN ", mu: &sync.Mutex{}, plans: map[string]string{}}
	old := s.db.write
	if s.Backend() == "sqlite" {
		e.explain = "EXPLAIN QUERY PLAN "
		e.Connector = named{old.Driver(), "file:" + strings.TrimPrefix(url, "sqlite:") +
			"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)"}
	} else {
		config, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		r := &reach{direct: true}
		e.Connector = stdlib.GetConnector(*config,
			stdlib.OptionBeforeConnect(r.beforeConnect), stdlib.OptionAfterConnect(r.afterConnect))
		e.kept = kept
	}
	conns := 10
	if s.Backend() == "sqlite" {
		conns = 1
	}
	pool := newPool(sql.OpenDB(e), s.db.dialect, conns)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.db.write, s.db.read = pool, pool
	return e
}

// named is a driver and what to open with it.
type named struct {
	driver driver.Driver
	name   string
}

// Connect implements driver.Connector.
func (n named) Connect(context.Context) (driver.Conn, error) { return n.driver.Open(n.name) }

// Driver implements driver.Connector.
func (n named) Driver() driver.Driver { return n.driver }

// Connect implements driver.Connector.
func (e *explained) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := e.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := conn.(queryConn)
	if !ok {
		return nil, fmt.Errorf("a %T has no contexts", conn)
	}
	return explainedConn{inner, e}, nil
}

// queryConn is what both drivers' connections are.
type queryConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

// explainedConn explains what it runs.
type explainedConn struct {
	queryConn

	all *explained
}

// CheckNamedValue implements driver.NamedValueChecker: what the driver has none of
// of its own, database/sql does.
func (c explainedConn) CheckNamedValue(value *driver.NamedValue) error {
	if checker, ok := c.queryConn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(value)
	}
	return driver.ErrSkip
}

// ExecContext implements driver.ExecerContext.
func (c explainedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.note(ctx, query, args); err != nil {
		return nil, err
	}
	return c.queryConn.ExecContext(ctx, query, args)
}

// QueryContext implements driver.QueryerContext.
func (c explainedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.note(ctx, query, args); err != nil {
		return nil, err
	}
	return c.queryConn.QueryContext(ctx, query, args)
}

// note keeps the plan of a statement. That of the last time counts, when the tables
// are at their fullest.
func (c explainedConn) note(ctx context.Context, query string, args []driver.NamedValue) (err error) {
	explaining := c.all.explain + query
	planned := len(args) > 0 && args[0].Value == any(pgx.QueryExecModeExec)
	if c.all.kept && planned {
		return nil // for its values, and judged where all are
	}
	if c.all.kept {
		if explaining, args, err = c.keep(ctx, query, args); err != nil {
			return err
		}
	}
	rows, err := c.queryConn.QueryContext(ctx, explaining, args)
	if err != nil {
		return fmt.Errorf("explain: %w\n%s", err, query)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var plan strings.Builder
	for values := make([]driver.Value, len(rows.Columns())); ; {
		err := rows.Next(values)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(&plan, values[len(values)-1]) // the text is the last column
	}
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.all.plans[query] = plan.String()
	return nil
}

// keep prepares a statement and returns what explains the plan that is kept for it,
// which knows of no value.
func (c explainedConn) keep(ctx context.Context, query string, args []driver.NamedValue) (string, []driver.NamedValue, error) {
	if len(args) == 0 {
		return c.all.explain + query, nil, nil
	}
	name := fmt.Sprintf("kept%d", c.all.prepared.Add(1))
	for _, statement := range []string{`SET plan_cache_mode = force_generic_plan`, `PREPARE ` + name + ` AS ` + query} {
		if _, err := c.queryConn.ExecContext(ctx, statement, []driver.NamedValue{{Ordinal: 1, Value: pgx.QueryExecModeExec}}); err != nil {
			return "", nil, fmt.Errorf("%w\n%s", err, query)
		}
	}
	return `EXPLAIN EXECUTE ` + name + ` (NULL` + strings.Repeat(", NULL", len(args)-1) + `)`, nil, nil
}
