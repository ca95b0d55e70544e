package storage

import (
	"context"
	"database/sql"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// pool is some connections, given to who has waited longest. database/sql by itself
// gives one to any of those who wait: in a crowd somebody would wait far longer than
// the others, https://go.dev/src/database/sql/sql.go (connRequestSet.TakeRandom).
type pool struct {
	*sql.DB

	dialect dialect
	turns   *semaphore.Weighted
	waits   atomic.Int64
	waited  atomic.Int64 // nanoseconds
}

func newPool(db *sql.DB, d dialect, conns int) *pool {
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return &pool{DB: db, dialect: d, turns: semaphore.NewWeighted(int64(conns))}
}

// turn waits until a connection is free for the caller, who ends the turn when it has
// given the connection back.
func (p *pool) turn(ctx context.Context) (end func(), err error) {
	if !p.turns.TryAcquire(1) {
		p.waits.Add(1)
		begin := time.Now()
		err := p.turns.Acquire(ctx, 1)
		p.waited.Add(int64(time.Since(begin)))
		if err != nil {
			return nil, err
		}
	}
	return func() { p.turns.Release(1) }, nil
}

// ExecContext runs a statement in a turn of its own, planned for its values if need be.
func (p *pool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	end, err := p.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return p.DB.ExecContext(ctx, query, p.dialect.planned(args)...)
}

// query runs a query in a turn of its own, planned for its values if need be.
func (p *pool) query(ctx context.Context, each func(scanner) error, query string, args ...any) error {
	end, err := p.turn(ctx)
	if err != nil {
		return err
	}
	defer end()
	all, err := p.QueryContext(ctx, query, p.dialect.planned(args)...)
	_, err = eachRow(all, err, each)
	return err
}

// Pools tells how each pool of connections is used, by its name: "all" with
// PostgreSQL, "read" and "write" with SQLite. It asks the database nothing.
func (s *Store) Pools() map[string]sql.DBStats {
	if s.db.read == s.db.write {
		return map[string]sql.DBStats{"all": s.db.write.stats()}
	}
	return map[string]sql.DBStats{"read": s.db.read.stats(), "write": s.db.write.stats()}
}

// stats are the connections' own, with the waiting, which is done here.
func (p *pool) stats() sql.DBStats {
	stats := p.Stats()
	stats.WaitCount, stats.WaitDuration = p.waits.Load(), time.Duration(p.waited.Load())
	return stats
}
