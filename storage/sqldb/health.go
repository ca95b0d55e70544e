package sqldb

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

// health knows whether a PostgreSQL can be reached. Once no connection can be had, one
// caller at a time tries, and the others fail without waiting.
type health struct {
	mu      sync.Mutex
	lost    error     // why the last try to connect failed; nil if it did not
	trying  bool      // after such a failure
	retryAt time.Time // after such a failure
	direct  bool      // the last connection led to a server of its own, not to a pooler

	distrusted time.Time // connections that were made before are to be replaced
}

// beforeConnect lets a try to connect go on, or says that it is in vain. A server
// keeps the plans of a connection of its own: planning is two thirds of what the
// statements for a single operation cost it. Through a pooler nothing is prepared,
// as the next statement may meet another server.
func (h *health) beforeConnect(_ context.Context, config *pgx.ConnConfig) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.direct {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	}
	if h.lost == nil {
		return nil
	}
	if h.trying || time.Now().Before(h.retryAt) {
		return fmt.Errorf("not tried again yet: %w", h.lost)
	}
	h.trying = true
	return nil
}

// TraceConnectStart implements pgx.ConnectTracer.
func (*health) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

// TraceConnectEnd notes whether the server gave a connection. Whoever asked for it may have
// given up meanwhile.
func (h *health) TraceConnectEnd(_ context.Context, end pgx.TraceConnectEndData) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying, h.lost, h.retryAt = false, end.Err, time.Now().Add(reconnectEvery)
}

// TraceQueryStart implements pgx.QueryTracer, as every tracer has to.
func (*health) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (*health) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// errElsewhere says that a connection was made for a server of its own and led to a pooler,
// or the other way round. The next is made for what it led to.
var errElsewhere = fmt.Errorf("a pooler came between, or went: %w", driver.ErrBadConn)

// afterConnect begins the session. The server is told what the relay does when
// the other side falls silent, for a network may forget a connection for both:
// else the locks of its transaction would stay, and the connection count.
func (h *health) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	told, err := conn.PgConn().Exec(ctx, sessionSettings(conn.PgConn().PID())).ReadAll()
	if err != nil {
		return fmt.Errorf("begin a session: %w", err)
	}
	conn.PgConn().CustomData()[made] = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.direct = len(told) > 0 && len(told[0].Rows) > 0
	if prepares := conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement; prepares != h.direct {
		return errElsewhere
	}
	return nil
}

// sessionSettings is the statement that configures a session: it bounds statements and idle
// sessions, and makes the planner use indexes. (In a burst the planner's statistics are old, and
// it would sort all that is due, expecting a few rows.) It changes nothing behind a pooler, whose
// server connections are shared with others: see deploy/pgbouncer.ini for the settings there.
// Servers before version 14 do not know idle_session_timeout.
func sessionSettings(server uint32) string {
	return fmt.Sprintf(`SELECT set_config(name, value, false) FROM (VALUES
		('statement_timeout', '%d'), ('idle_in_transaction_session_timeout', '%d'), ('idle_session_timeout', '%d'),
		('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
		('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'), ('jit', 'off')
		) AS wanted (name, value) JOIN pg_settings USING (name) WHERE pg_backend_pid() = %d`,
		AnswerTime.Milliseconds(), idleInTransaction.Milliseconds(), idleSession.Milliseconds(), server)
}

// made is the key of the time at which a connection was made, in its custom data.
const made = "made"

// distrust has all connections replaced if one of them fails in a way that the others may
// share, unless it was about to be replaced itself. A connection that breaks without a word is
// seldom alone, and each takes a timeout to be noticed.
func (h *health) distrust(conn *pgx.Conn, err error) {
	if !leadsNowhere(err) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !madeAt(conn).Before(h.distrusted) {
		h.distrusted = time.Now()
	}
}

// replace says whether a connection that is about to be used is to be replaced. It is used for
// reconnectEvery at least: a server that refuses every write would else be connected to for each.
func (h *health) replace(conn *pgx.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := madeAt(conn)
	return at.Before(h.distrusted) && time.Since(at) >= reconnectEvery
}

func madeAt(conn *pgx.Conn) time.Time {
	at, _ := conn.PgConn().CustomData()[made].(time.Time)
	return at
}

// leadsNowhere recognises what befalls all connections of a pool together.
func leadsNowhere(err error) bool {
	if answer := (*pgconn.PgError)(nil); errors.As(err, &answer) {
		return answer.Code == sqlStateReadOnly || strings.HasPrefix(answer.Code, "57P")
	}
	return pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded)
}
