package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqliteReaders is how many reads go on beside the one writer.
const sqliteReaders = 4

// openSQLite makes the file, readable by its owner alone, and opens one
// connection to write with and a few to read with.
func openSQLite(path string, c Config) (*DB, error) {
	path, err := sqlitePath(path)
	if err != nil {
		return nil, err
	}
	if path, err = SQLiteFile(path); err != nil {
		return nil, fmt.Errorf("the SQLite file: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("the SQLite file: %w", err)
	}
	if err := errors.Join(checkOneName(file), file.Close()); err != nil {
		return nil, fmt.Errorf("the SQLite file: %w", err)
	}
	write, err := newSQLitePool(path, 1, url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(5000)",
		"auto_vacuum(INCREMENTAL)", // of a new file, before anything is in it: see Shrink
		"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
		"cache_size(-32768)", // KiB: the upper pages of the indexes that a burst writes, at a million watches
	}})
	if err != nil {
		return nil, fmt.Errorf("the SQLite file: %w", err)
	}
	read, err := newSQLitePool(path, sqliteReaders, url.Values{"_pragma": {"busy_timeout(5000)", "query_only(1)"}})
	if err != nil {
		return nil, fmt.Errorf("the SQLite file: %w", errors.Join(err, write.close()))
	}
	return &DB{Dialect: sqliteDialect(), write: write, read: read, before: c.Before, sqlite: write.DB}, nil
}

// sqlitePath is the absolute path of what follows "sqlite:" in a URL.
func sqlitePath(path string) (string, error) {
	switch {
	case path == "":
		return "", errors.New("sqlite: needs the path of a file: sqlite:relay.db")
	case strings.Contains(path, ":memory:"):
		return "", errors.New("sqlite::memory: is refused: what the relay promises must outlive it; give the path of a file")
	case strings.HasPrefix(path, "//"):
		return "", errors.New("write sqlite:/absolute/path or sqlite:relative/path, without //")
	case strings.ContainsAny(path, "?#"):
		return "", errors.New("sqlite:PATH takes no options: the path may contain neither ? nor #")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("the SQLite file: %w", err)
	}
	return absolute, nil
}

// sqlitePool is connections to a SQLite. database/sql by itself gives one to any of those
// who wait: in a crowd somebody would wait far longer than the others,
// https://go.dev/src/database/sql/sql.go (connRequestSet.TakeRandom).
type sqlitePool struct {
	*sql.DB

	turns  *semaphore.Weighted // first come, first served
	waits  atomic.Int64
	waited atomic.Int64 // nanoseconds
}

func newSQLitePool(path string, conns int, options url.Values) (*sqlitePool, error) {
	name := url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}
	all, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	all.SetMaxOpenConns(conns)
	all.SetMaxIdleConns(conns)
	return &sqlitePool{DB: all, turns: semaphore.NewWeighted(int64(conns))}, nil
}

func (p *sqlitePool) hold(ctx context.Context, do func(conn) error) error {
	if !p.turns.TryAcquire(1) {
		p.waits.Add(1)
		begin := time.Now()
		err := p.turns.Acquire(ctx, 1)
		p.waited.Add(int64(time.Since(begin)))
		if err != nil {
			return fmt.Errorf("wait for a connection: %w", err)
		}
	}
	defer p.turns.Release(1)
	inner, err := p.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = inner.Close() }() // gives it back to the pool
	return do(sqliteConn{inner})
}

// stats are the connections' own, with the waiting, which is done here.
func (p *sqlitePool) stats() sql.DBStats {
	stats := p.Stats()
	stats.WaitCount, stats.WaitDuration = p.waits.Load(), time.Duration(p.waited.Load())
	return stats
}

func (p *sqlitePool) close() error { return p.Close() }

// sqliteConn is a connection of the pool.
type sqliteConn struct{ *sql.Conn }

func (c sqliteConn) send(ctx context.Context, statements []statement) error {
	for _, s := range statements {
		n, err := c.run(ctx, s)
		if err != nil {
			return err
		}
		if s.n != nil {
			*s.n = n
		}
	}
	return nil
}

func (c sqliteConn) run(ctx context.Context, s statement) (n int, err error) {
	if s.each == nil {
		result, err := c.ExecContext(ctx, s.query, s.args...)
		if err != nil {
			return 0, err
		}
		n, err := result.RowsAffected()
		return int(n), err
	}
	all, err := c.QueryContext(ctx, s.query, s.args...)
	if err != nil {
		return 0, err
	}
	defer all.Close()
	for ; all.Next(); n++ {
		if err := s.each(all); err != nil {
			return n, err
		}
	}
	return n, all.Err()
}

func (sqliteConn) begin() string { return "BEGIN IMMEDIATE" }

func (c sqliteConn) rollBack(ctx context.Context) {
	const none = 1 // transaction to roll back: SQLite has done so by itself
	if _, err := c.ExecContext(ctx, "ROLLBACK"); err != nil && sqliteCode(err) != none {
		_ = c.Raw(func(any) error { return driver.ErrBadConn }) // has it closed
	}
}

// Shrink gives up to so many pages of a SQLite file back to the disk, if more than a tenth of
// it is free: the rest is for what comes. PostgreSQL's own vacuum does what it can.
func (db *DB) Shrink(ctx context.Context, pages int) error {
	if db.sqlite == nil {
		return nil
	}
	excess, err := One(ctx, db, Int, `SELECT freelist_count - page_count / 10 FROM pragma_freelist_count, pragma_page_count`)
	if err != nil || excess <= 0 {
		return err
	}
	_, err = db.Writer().Query(ctx, func(Row) error { return nil }, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, min(pages, int(excess))))
	return err
}
