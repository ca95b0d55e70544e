package storage

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// wire is how the statements of one transaction reach the database. Without a commit
// it is rolled back.
type wire interface {
	// query runs a statement, has each called with its rows, and says how many rows it
	// returned or changed.
	query(ctx context.Context, each func(scanner) error, query string, args []any) (int, error)
	// later is query for a statement whose outcome nothing waits for before the commit:
	// what comes of it is told by then.
	later(ctx context.Context, s statement) error
	commit(ctx context.Context) error
}

// transact runs do in a transaction on the connection.
func (db *database) transact(ctx context.Context, conn *sql.Conn, do func(wire) error) error {
	errOther := errors.New("not pgx")
	err := conn.Raw(func(raw any) error {
		inner, ok := raw.(*stdlib.Conn)
		if !ok {
			return errOther
		}
		p := &pipeline{conn: inner.Conn(), queued: []statement{{query: "BEGIN"}}}
		defer p.end(ctx)
		return do(p)
	})
	if err != errOther { //nolint:errorlint // Raw returns it bare
		return err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing
	return do(oneByOne{tx})
}

// oneByOne is a transaction whose statements run when they come.
type oneByOne struct{ *sql.Tx }

func (s oneByOne) query(ctx context.Context, each func(scanner) error, query string, args []any) (int, error) {
	if each == nil {
		result, err := s.ExecContext(ctx, query, args...)
		if err != nil {
			return 0, err
		}
		n, err := result.RowsAffected()
		return int(n), err
	}
	all, err := s.QueryContext(ctx, query, args...)
	return eachRow(all, err, each)
}

func (s oneByOne) later(ctx context.Context, l statement) error {
	_, err := s.query(ctx, l.each, l.query, l.args)
	return err
}

func (s oneByOne) commit(context.Context) error { return s.Commit() }

// eachRow reads the rows of a query, unless it failed.
func eachRow(all *sql.Rows, err error, each func(scanner) error) (n int, _ error) {
	if err != nil {
		return 0, err
	}
	defer all.Close()
	for ; all.Next(); n++ {
		if err := each(all); err != nil {
			return n, err
		}
	}
	return n, all.Err()
}

// pipeline is a transaction of PostgreSQL that sends what nobody waits for together
// with the next that somebody does, for one round trip: a transaction of ten
// statements takes four, and what it locks it holds for as much less.
type pipeline struct {
	conn   *pgx.Conn
	queued []statement
	sent   bool // BEGIN, so that there is something to commit or to end
}

type statement struct {
	query string
	args  []any
	each  func(scanner) error
	n     *int   // rows returned or changed; nil if nobody asks
	tag   string // that the server must answer with; "" for any
}

func (p *pipeline) query(ctx context.Context, each func(scanner) error, query string, args []any) (n int, err error) {
	p.queued = append(p.queued, statement{query: query, args: args, each: each, n: &n})
	err = p.send(ctx)
	return n, err
}

func (p *pipeline) later(ctx context.Context, s statement) error {
	s.args = slices.Clone(s.args)
	p.queued = append(p.queued, s)
	if alone(s.args) {
		return p.send(ctx)
	}
	return nil
}

func (p *pipeline) commit(ctx context.Context) error {
	if !p.sent && len(p.queued) == 1 { // BEGIN
		return nil
	}
	committed := -1
	p.queued = append(p.queued, statement{query: "COMMIT", tag: "COMMIT", n: &committed})
	err := p.send(ctx)
	if committed >= 0 { // and what went wrong after that, a server that stops, changes nothing
		return nil
	}
	return err
}

// send sends what is queued. The last may be one that is planned for its values, which
// no batch can do.
func (p *pipeline) send(ctx context.Context) error {
	queued := p.queued
	p.queued, p.sent = nil, true
	last := queued[len(queued)-1]
	if alone(last.args) {
		queued = queued[:len(queued)-1]
	}
	if len(queued) > 0 {
		var batch pgx.Batch
		for _, s := range queued {
			batch.Queue(s.query, s.args...).Query(s.read)
		}
		if err := p.conn.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
	}
	if !alone(last.args) {
		return nil
	}
	all, err := p.conn.Query(ctx, last.query, last.args...)
	if err != nil {
		return err
	}
	defer all.Close()
	return last.read(all)
}

// alone says whether a statement takes the mode that its first argument says.
func alone(args []any) bool {
	if len(args) == 0 {
		return false
	}
	_, mode := args[0].(pgx.QueryExecMode)
	return mode
}

func (s statement) read(all pgx.Rows) error {
	for all.Next() {
		if s.each == nil {
			continue
		}
		if err := s.each(all); err != nil {
			return err
		}
	}
	if err := all.Err(); err != nil {
		return err
	}
	if s.tag != "" && all.CommandTag().String() != s.tag {
		return pgx.ErrTxCommitRollback
	}
	if s.n != nil {
		*s.n = int(all.CommandTag().RowsAffected())
	}
	return nil
}

// end rolls back what was not committed. Where that fails, the connection is not
// used again: it is in a transaction, which database/sql is told when it resets it.
func (p *pipeline) end(ctx context.Context) {
	const idle = 'I'
	if !p.sent || p.conn.IsClosed() || p.conn.PgConn().TxStatus() == idle {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	_, _ = p.conn.Exec(ctx, "ROLLBACK")
}
