// Package sqldb runs SQL that PostgreSQL and SQLite both understand: connections, transactions,
// statements for many rows, lists in pages, and which errors are an outage.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
)

// Config says which database to open.
type Config struct {
	// URL is sqlite:PATH (relative or absolute) or postgres://...
	URL string
	// MaxConns bounds the connections to PostgreSQL; 0 means DefaultMaxConns.
	MaxConns int
	// Before is called before each statement with its connection, which runs them one by one
	// then; nil for nobody. It is for tests.
	Before func(ctx context.Context, on Querier, query string, args []any) error
}

// DB is a database. It is a Querier of its own, for reading outside of transactions.
type DB struct {
	*Dialect

	write, read pool           // the same for PostgreSQL
	patient     func() *sql.DB // for PostgreSQL
	sqlite      *sql.DB        // what writes to SQLite
	before      func(ctx context.Context, on Querier, query string, args []any) error
	unwell      atomic.Bool
}

// CheckURL says what is wrong with a URL for Open. It does not quote it, for it
// may hold a password.
func CheckURL(rawURL string) error {
	scheme, rest, _ := strings.Cut(rawURL, ":")
	var err error
	switch scheme {
	case "sqlite":
		_, err = sqlitePath(rest)
	case "postgres", "postgresql":
		_, err = parsePostgres(rawURL)
	default:
		err = errURL
	}
	return err
}

var errURL = errors.New("must be sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME")

// Open makes the pools; it connects to nothing yet.
func Open(config Config) (*DB, error) {
	scheme, rest, _ := strings.Cut(config.URL, ":")
	switch scheme {
	case "sqlite":
		return openSQLite(rest, config)
	case "postgres", "postgresql":
		return openPostgres(config)
	}
	return nil, fmt.Errorf("the database URL %w", errURL)
}

// Connect makes a connection, unless there is one.
func (db *DB) Connect(ctx context.Context) error {
	return db.write.hold(ctx, func(conn) error { return nil })
}

// Query implements Querier.
func (db *DB) Query(ctx context.Context, each func(Row) error, query string, args ...any) (int, error) {
	return db.query(ctx, db.read, each, query, args)
}

// Writer is a Querier for single statements that write.
func (db *DB) Writer() Querier { return writer{db} }

type writer struct{ db *DB }

// Query implements Querier.
func (w writer) Query(ctx context.Context, each func(Row) error, query string, args ...any) (int, error) {
	return w.db.query(ctx, w.db.write, each, query, args)
}

func (db *DB) query(caller context.Context, p pool, each func(Row) error, query string, args []any) (n int, err error) {
	defer func() { db.noteFailure(caller, err) }()
	ctx, cancel := context.WithTimeout(caller, AnswerTime)
	defer cancel()
	err = db.hold(ctx, p, func(on conn) error {
		n, err = run(ctx, on, statement{query: query, args: args, each: each, byValues: db.byValues(args)})
		return err
	})
	return n, err
}

func (db *DB) hold(ctx context.Context, p pool, do func(conn) error) error {
	return p.hold(ctx, func(on conn) error {
		if db.before != nil {
			on = watched{on, db.before}
		}
		return do(on)
	})
}

// Patient is connections whose statements may take long, as those of migrations. The
// caller closes them when they are done with.
func (db *DB) Patient() (conns *sql.DB, closeThem func() error) {
	if db.patient == nil {
		return db.sqlite, func() error { return nil }
	}
	conns = db.patient()
	return conns, conns.Close
}

// Pools tells how each pool of connections is used, by its name: "all" with
// PostgreSQL, "read" and "write" with SQLite. It asks the database nothing.
func (db *DB) Pools() map[string]sql.DBStats {
	if db.read == db.write {
		return map[string]sql.DBStats{"all": db.write.stats()}
	}
	return map[string]sql.DBStats{"read": db.read.stats(), "write": db.write.stats()}
}

// Close closes the connections. What is running with PostgreSQL it waits for.
func (db *DB) Close() error {
	if db.read == db.write {
		return db.write.close()
	}
	return errors.Join(db.read.close(), db.write.close())
}
