package storage

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"oprelay/deploy/testenv"
)

// Every connection tells the server our limits; those of migrations do not.
func TestSessionSettings(t *testing.T) {
	t.Parallel()
	db, err := open(Config{URL: testenv.Postgres(t), Keys: &Keyring{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.write.Close() })
	patient := db.patient()
	t.Cleanup(func() { _ = patient.Close() })
	for name, want := range map[string]string{
		"statement_timeout": "10s", "idle_in_transaction_session_timeout": "5s", "idle_session_timeout": "45s",
		"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
		"enable_seqscan": "off", "enable_bitmapscan": "off", "jit": "off",
	} {
		var got, unlimited string
		if err := db.write.QueryRowContext(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if err := patient.QueryRowContext(t.Context(), "SELECT current_setting($1)", name).Scan(&unlimited); err != nil {
			t.Fatal(err)
		}
		if got != want || unlimited == want {
			t.Errorf("%s is %s, want %s; for migrations it is %s", name, got, want, unlimited)
		}
	}
}

// Through a pooler nothing stays behind on a server's connection, where the next
// client would find it.
func TestSessionThroughPooler(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	before := sessionOf(t, direct)
	pooler := testenv.StartPgBouncer(t, direct, "default_pool_size = 1")
	pooled := sessionOf(t, pooler.URL)
	if before["idle_session_timeout"] != "45s" || pooled["idle_session_timeout"] != "0" {
		t.Errorf("idle_session_timeout is %s, through a pooler %s", before["idle_session_timeout"], pooled["idle_session_timeout"])
	}
	for _, name := range []string{"statement_timeout", "enable_seqscan", "enable_bitmapscan", "jit"} { // connect_query's
		if pooled[name] != before[name] {
			t.Errorf("%s is %s, through a pooler %s", name, before[name], pooled[name])
		}
	}
	if before["prepared"] == "0" {
		t.Error("a server of its own keeps no plan")
	}
	for _, none := range []string{"prepared", "locks"} {
		if pooled[none] != "0" {
			t.Errorf("%s: %s left", none, pooled[none])
		}
	}
}

// Whatever comes between, or goes, what was true of the connection before is not
// taken to be true of the next.
func TestPoolerComesBetween(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	for url, prepares := range map[string]bool{direct: true, testenv.StartPgBouncer(t, direct, "default_pool_size = 1").URL: false} {
		config, err := parsePostgres(url)
		if err != nil {
			t.Fatal(err)
		}
		r := &reach{direct: !prepares}
		pool := sql.OpenDB(stdlib.GetConnector(*config, stdlib.OptionBeforeConnect(r.beforeConnect), stdlib.OptionAfterConnect(r.afterConnect)))
		t.Cleanup(func() { _ = pool.Close() })
		var left int
		for range 2 {
			if err := pool.QueryRowContext(t.Context(), `SELECT COUNT(*) + $1::bigint FROM pg_prepared_statements`, 0).Scan(&left); err != nil {
				t.Fatal(err)
			}
		}
		if r.direct != prepares || left > 0 != prepares {
			t.Errorf("prepares on the server: %v, %d; want %v", r.direct, left, prepares)
		}
	}
}

// sessionOf is what a connection of a store looks like that has done its work.
func sessionOf(t *testing.T, url string) map[string]string {
	t.Helper()
	db, err := open(Config{URL: url, Keys: &Keyring{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.write.Close() })
	s := &Store{db: db}
	if err := s.write(t.Context(), func(tx *transaction) error {
		_, err := queryOne(tx.ctx, tx, scanInt, `SELECT $1::bigint`, 1)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	queries := map[string]string{
		"prepared": `SELECT count(*)::text FROM pg_prepared_statements`,
		"locks":    `SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()`,
	}
	for _, name := range []string{"statement_timeout", "idle_session_timeout", "enable_seqscan", "enable_bitmapscan", "jit"} {
		queries[name] = `SELECT current_setting('` + name + `')`
	}
	session := map[string]string{}
	for name, query := range queries {
		var value string
		if err := db.write.QueryRowContext(t.Context(), query).Scan(&value); err != nil {
			t.Fatal(err)
		}
		session[name] = value
	}
	return session
}

func TestRefusalIsExplained(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		&pgconn.PgError{Code: "53300", Message: "sorry, too many clients already"}:               true,
		&pgconn.PgError{Code: "08P01", Message: "no more connections allowed (max_client_conn)"}: true,
		&pgconn.PgError{Code: "28P01", Message: "password authentication failed"}:                false,
		errors.New("refused"): false,
	} {
		got := explainRefusal(err)
		if strings.Contains(got.Error(), "RELAY_DATABASE_MAX_CONNS") != want || !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
	if explainRefusal(nil) != nil {
		t.Error("no refusal is one")
	}
}

// A caller whose time is over has not learned that the server is away, even where that
// shows in its context a moment later only.
func TestWhoDidNotWaitHasLearnedNothing(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-time.Millisecond, time.Hour} {
		var r reach
		r.TraceConnectEnd(dueContext{t.Context(), time.Now().Add(ahead)}, pgx.TraceConnectEndData{Err: os.ErrDeadlineExceeded})
		if gaveUp := ahead < 0; (r.lost == nil) != gaveUp {
			t.Errorf("with %s left: lost is %v", ahead, r.lost)
		}
	}
}

// dueContext is a context that is not over yet, whatever its deadline.
type dueContext struct {
	context.Context

	deadline time.Time
}

func (c dueContext) Deadline() (time.Time, bool) { return c.deadline, true }
