package sqldb

import (
	"context"
	"database/sql"
)

// pool is a set of connections, handed out first come, first served.
type pool interface {
	// hold waits until a connection is free, and has do use it.
	hold(ctx context.Context, do func(conn) error) error
	stats() sql.DBStats
	close() error
}

// conn is one connection, while somebody has it.
type conn interface {
	// send runs statements one after the other, in one round trip where it can, until one fails.
	send(ctx context.Context, statements []statement) error
	// begin is the statement that begins a transaction.
	begin() string
	// rollBack ends the transaction that there may be. A connection that cannot do so is given up.
	rollBack(ctx context.Context)
}

type statement struct {
	query    string
	args     []any
	byValues bool            // PostgreSQL is to plan it for these args
	each     func(Row) error // is called with the rows; nil for nobody
	n        *int            // rows returned or changed; nil if nobody asks
	tag      string          // that PostgreSQL must answer with; "" for any
}

// run runs one statement, and says how many rows it returned or changed.
func run(ctx context.Context, on conn, s statement) (n int, err error) {
	s.n = &n
	err = on.send(ctx, []statement{s})
	return n, err
}

// watched has somebody look at each statement before it runs, see Config.Before.
type watched struct {
	conn

	before func(ctx context.Context, on Querier, query string, args []any) error
}

func (w watched) send(ctx context.Context, statements []statement) error {
	for _, s := range statements {
		if err := w.before(ctx, alone{w.conn}, s.query, s.args); err != nil {
			return err
		}
		if err := w.conn.send(ctx, []statement{s}); err != nil {
			return err
		}
	}
	return nil
}

// alone runs statements on a connection by themselves, planned for their values.
type alone struct{ conn conn }

// Query implements Querier.
func (a alone) Query(ctx context.Context, each func(Row) error, query string, args ...any) (int, error) {
	return run(ctx, a.conn, statement{query: query, args: args, each: each, byValues: true})
}
