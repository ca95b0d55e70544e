package storage

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// reconnectEvery is how often a server is asked for a connection that gave
	// none. Between two tries, and during one, whoever needs a connection is told
	// so at once.
	reconnectEvery = 500 * time.Millisecond
	// pingAfter is how long a connection may be idle and still be trusted.
	pingAfter = time.Second
	// pingTime is how long such a connection may take to show that it lives.
	pingTime = 2 * time.Second
)

// sessionKey is where a connection's session is kept, in pgconn's custom data.
const sessionKey = "relay"

// session is what is known of one connection. It belongs to who has it.
type session struct {
	generation int
	used       time.Time
}

// reach knows whether a PostgreSQL can be reached. A connection that breaks
// without a word is seldom alone, and each takes a timeout to be noticed: so the
// first gives up all that are as old. And once no new connection can be had, one
// caller at a time tries, and the others fail without waiting.
type reach struct {
	mu         sync.Mutex
	generation int       // of the connections that are trusted
	lost       error     // why the last try to connect failed; nil if it did not
	trying     bool      // after such a failure
	retryAt    time.Time // after such a failure
	direct     bool      // the last connection led to a server of its own, not to a pooler
}

// beforeConnect lets a try to connect go on, or says that it is in vain. A server
// keeps the plans of a connection of its own: planning is two thirds of what the
// statements for a single operation cost it. Through a pooler nothing is prepared,
// as the next statement may meet another server's.
func (r *reach) beforeConnect(_ context.Context, config *pgx.ConnConfig) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	if r.direct {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	}
	if r.lost == nil {
		return nil
	}
	if r.trying || time.Now().Before(r.retryAt) {
		return fmt.Errorf("not tried again yet: %w", r.lost)
	}
	r.trying = true
	return nil
}

// TraceConnectStart implements pgx.ConnectTracer.
func (r *reach) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

// TraceConnectEnd notes whether the server gave a connection. A caller who did
// not wait for the answer has learned nothing.
func (r *reach) TraceConnectEnd(ctx context.Context, end pgx.TraceConnectEndData) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trying = false
	// What dials may find its deadline passed before the context does.
	deadline, limited := ctx.Deadline()
	switch {
	case end.Err == nil:
		r.lost = nil
	case ctx.Err() == nil && (!limited || time.Now().Before(deadline)):
		r.lost, r.retryAt = end.Err, time.Now().Add(reconnectEvery)
	}
}

// afterConnect begins the session. The server is told what the relay does when
// the other side falls silent, for a network may forget a connection for both:
// else the locks of its transaction would stay, and the connection count. A connection
// that leads elsewhere than the one before it did was made in the wrong mode, so it is
// made once more: at the start, and when a pooler comes between or goes.
func (r *reach) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	told, err := conn.PgConn().Exec(ctx, sessionSettings(conn.PgConn().PID())).ReadAll()
	if err != nil {
		return errors.Join(fmt.Errorf("begin a session: %w", err), conn.Close(ctx))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.direct = len(told) > 0 && len(told[0].Rows) > 0
	if prepares := conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement; prepares != r.direct {
		_ = conn.Close(ctx)
		return driver.ErrBadConn // has database/sql connect again
	}
	conn.PgConn().CustomData()[sessionKey] = &session{generation: r.generation, used: time.Now()}
	return nil
}

// sessionSettings is the statement that tells a server what it does not do by
// itself: to give up, and to go by an index where there is one. In a burst the
// planner's statistics are old, and what it takes for the sort of a few rows is one
// of all that is due. This is told if it is the process that the connection was made to. It is not if there
// is a pooler between: what is set there stays with a server connection, which others
// use as well; the pooler has settings of its own for that, see deploy/pgbouncer.ini.
// Servers before version 14 do not know idle_session_timeout.
func sessionSettings(server uint32) string {
	return fmt.Sprintf(`SELECT set_config(name, value, false) FROM (VALUES
		('statement_timeout', '%d'), ('idle_in_transaction_session_timeout', '%d'), ('idle_session_timeout', '%d'),
		('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
		('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'), ('jit', 'off')
		) AS wanted (name, value) JOIN pg_settings USING (name) WHERE pg_backend_pid() = %d`,
		answerTime.Milliseconds(), idleInTransaction.Milliseconds(), idleSession.Milliseconds(), server)
}

// resetSession says before a connection is used again whether it still can be:
// driver.ErrBadConn has another taken, and in the end a new one made.
func (r *reach) resetSession(ctx context.Context, conn *pgx.Conn) error {
	s, trusted := r.session(conn)
	if !trusted {
		return driver.ErrBadConn
	}
	if time.Since(s.used) > pingAfter {
		ping, cancel := context.WithTimeout(ctx, pingTime)
		defer cancel()
		if conn.Ping(ping) != nil {
			return driver.ErrBadConn
		}
	}
	s.used = time.Now()
	return nil
}

// TraceQueryStart implements pgx.QueryTracer.
func (r *reach) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd stops trusting the connections when one of them does not answer,
// or leads to a server that no longer is the one to write to.
func (r *reach) TraceQueryEnd(_ context.Context, conn *pgx.Conn, end pgx.TraceQueryEndData) {
	if !leadsNowhere(end.Err) {
		return
	}
	s, trusted := r.session(conn)
	if !trusted {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation = max(r.generation, s.generation+1)
}

// TraceBatchStart implements pgx.BatchTracer.
func (r *reach) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (r *reach) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd is TraceQueryEnd for several at once.
func (r *reach) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, end pgx.TraceBatchEndData) {
	r.TraceQueryEnd(ctx, conn, pgx.TraceQueryEndData{Err: end.Err})
}

// session is the connection's, and whether it is trusted.
func (r *reach) session(conn *pgx.Conn) (*session, bool) {
	s, ok := conn.PgConn().CustomData()[sessionKey].(*session)
	if !ok {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return s, s.generation == r.generation
}

// leadsNowhere recognises what befalls all connections of a pool together.
func leadsNowhere(err error) bool {
	if answer := (*pgconn.PgError)(nil); errors.As(err, &answer) {
		return answer.Code == sqlStateReadOnly || strings.HasPrefix(answer.Code, "57P")
	}
	return pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded)
}
