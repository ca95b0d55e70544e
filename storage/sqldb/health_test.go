package sqldb

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"oprelay/deploy/testenv"
)

// Every connection tells the server our limits; those of migrations do not.
func TestSessionSettings(t *testing.T) {
	t.Parallel()
	db := get(Open(Config{URL: testenv.Postgres(t)}))(t)
	t.Cleanup(func() { _ = db.Close() })
	patient, closePatient := db.Patient()
	t.Cleanup(func() { _ = closePatient() })
	for name, want := range map[string]string{
		"statement_timeout": "10s", "idle_in_transaction_session_timeout": "5s", "idle_session_timeout": "45s",
		"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
		"enable_seqscan": "off", "enable_bitmapscan": "off", "jit": "off",
	} {
		got := get(One(t.Context(), db, String, "SELECT current_setting($1)", name))(t)
		var unlimited string
		check(t, patient.QueryRowContext(t.Context(), "SELECT current_setting($1)", name).Scan(&unlimited))
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
		p := get(newPostgresPool(get(parsePostgres(url + "&statement_cache_capacity=0&description_cache_capacity=0"))(t)))(t)
		t.Cleanup(p.Close)
		p.direct = !prepares
		db := &DB{Dialect: postgresDialect(), read: p, write: p}
		var left int64
		for range 2 {
			left = get(One(t.Context(), db, Int, `SELECT COUNT(*) + $1::bigint FROM pg_prepared_statements`, 0))(t)
		}
		if p.direct != prepares || left > 0 != prepares {
			t.Errorf("prepares on the server: %v, %d; want %v", p.direct, left, prepares)
		}
	}
}

// sessionOf is what a connection of a database looks like that has done its work.
func sessionOf(t *testing.T, url string) map[string]string {
	t.Helper()
	db := get(Open(Config{URL: url}))(t)
	t.Cleanup(func() { _ = db.Close() })
	check(t, db.Transact(t.Context(), 0, func(tx *Tx) error {
		_, err := One(t.Context(), tx, Int, `SELECT $1::bigint`, 1)
		return err
	}))
	queries := map[string]string{
		"prepared": `SELECT count(*)::text FROM pg_prepared_statements`,
		"locks":    `SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()`,
	}
	for _, name := range []string{"statement_timeout", "idle_session_timeout", "enable_seqscan", "enable_bitmapscan", "jit"} {
		queries[name] = `SELECT current_setting('` + name + `')`
	}
	session := map[string]string{}
	for name, query := range queries {
		session[name] = get(One(t.Context(), db, String, query))(t)
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

// A server that refuses every write is not connected to anew for each of them.
func TestRefusedWritesKeepTheirConnection(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	testenv.Execute(t, url, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$")
	p := get(newPostgresPool(get(parsePostgres(url))(t)))(t)
	t.Cleanup(p.Close)
	db := &DB{Dialect: postgresDialect(), read: p, write: p}
	began := time.Now()
	for range 100 {
		if err := Exec(t.Context(), db, "CREATE TABLE nothing ()"); !Unavailable(err) {
			t.Fatalf("%v is not Unavailable", err)
		}
	}
	opened, most := p.Stat().NewConnsCount(), 3+int64(time.Since(began)/reconnectEvery)
	if opened > most {
		t.Errorf("%d connections were opened, want at most %d", opened, most)
	}

	// Once it takes writes again, none is refused for the sake of an old connection.
	testenv.Execute(t, url, "SET transaction_read_only = off; DO $$ BEGIN EXECUTE format("+
		"'ALTER DATABASE %I RESET default_transaction_read_only', current_database()); END $$")
	<-time.After(reconnectEvery)
	get(ExecCount(t.Context(), db, "CREATE TABLE nothing ()"))(t)
}

// A caller who gives up before a server has answered has not learned that it is away: the
// next one tries, too.
func TestWhoDidNotWaitHasLearnedNothing(t *testing.T) {
	t.Parallel()
	proxy := testenv.StartProxy(t, testenv.Postgres(t))
	db := get(Open(Config{URL: proxy.URL}))(t)
	t.Cleanup(func() { check(t, db.Close()) })
	proxy.Silence()
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := db.Connect(soon); err == nil || !Unavailable(err) {
		t.Errorf("%v is not Unavailable", err)
	}
	proxy.Restore()
	if err := db.Connect(t.Context()); err != nil {
		t.Errorf("the next caller: %v", err)
	}
}
