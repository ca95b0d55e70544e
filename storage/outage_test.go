package storage_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/storage"
	"oprelay/storage/seal"
)

const (
	// recoveryTime is how soon after PostgreSQL is back the store must be, too.
	recoveryTime = 15 * time.Second
	// refusalTime bounds how long a call may take meanwhile: ten seconds, and what
	// a busy machine adds.
	refusalTime = 15 * time.Second
	// interrupted is how many transactions an outage hits in the middle.
	interrupted = 4
	// poolSize is how many connections a store has at most, all open before the outage.
	poolSize = 16
)

// outage is one way for PostgreSQL to go away and to come back.
type outage struct {
	name string
	// from makes the server and returns the URL that the store uses.
	from func(*testing.T) (url string, harm, mend func())
	// brief says that it is over at once, so that nothing is asked meanwhile.
	brief bool
}

func outages() []outage {
	proxied := func(harm func(*testenv.Proxy)) func(*testing.T) (string, func(), func()) {
		return func(t *testing.T) (string, func(), func()) {
			t.Helper()
			p := testenv.StartProxy(t, testenv.Postgres(t))
			return p.URL, func() { harm(p) }, p.Restore
		}
	}
	own := func(harm, mend func(*testenv.Server)) func(*testing.T) (string, func(), func()) {
		return func(t *testing.T) (string, func(), func()) {
			t.Helper()
			s := testenv.StartPostgresServer(t)
			return s.URL, func() { harm(s) }, func() { mend(s) }
		}
	}
	return []outage{
		{"cut", proxied((*testenv.Proxy).Cut), true},
		{"forgotten", proxied(func(p *testenv.Proxy) { p.Silence(); p.Restore() }), true},
		{"refused", proxied((*testenv.Proxy).Refuse), false},
		{"silent", proxied((*testenv.Proxy).Silence), false},
		{"killed", own((*testenv.Server).Kill, (*testenv.Server).Restart), false},
		{"stopped", own((*testenv.Server).Pause, (*testenv.Server).Resume), false},
	}
}

// Whatever takes PostgreSQL away: no call waits long, each failure is one that
// passes, no transaction is half kept, and soon after the return all goes on.
func TestOutages(t *testing.T) {
	t.Parallel()
	for _, o := range outages() {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			url, harm, mend := o.from(t)
			s := openOn(t, url)
			fillPool(t, s)
			answers := interrupt(t, s, harm)
			if !o.brief {
				refusesQuickly(t, s)
			}
			var failed []error
			for range interrupted {
				failed = append(failed, <-answers)
			}
			mend()
			back := time.Now()
			halves := half(t, url)
			recovers(t, s, back)
			for i, err := range failed {
				if err != nil && !storage.Unavailable(err) {
					t.Errorf("a transaction in the middle: %v is not Unavailable", err)
				}
				if n := halves[i]; n == 1 || err == nil && n == 0 {
					t.Errorf("a transaction in the middle (%v) has kept %d of its 2 rows", err, n)
				}
			}
		})
	}
}

// A standby that was the primary answers all the same. The connections to it are
// given up, once it says that it is one.
func TestFailover(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgresServer(t)
	s := openOn(t, server.URL)
	const readOnly = "ALTER DATABASE relay SET default_transaction_read_only = "
	run(t, server.URL, readOnly+"on")
	server.Restart()
	if _, err := s.EnsureTenant(t.Context(), "acme"); !storage.Unavailable(err) {
		t.Errorf("of a standby: %v is not Unavailable", err)
	}
	fillPool(t, s)
	run(t, server.URL, "SET default_transaction_read_only = off", readOnly+"off")
	if _, err := s.EnsureTenant(t.Context(), "acme"); err != nil && !storage.Unavailable(err) {
		t.Errorf("of an old connection: %v is not Unavailable", err)
	}
	recovers(t, s, time.Now())
}

// A disk that is full keeps nothing of a transaction, and lets it be repeated.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	s := openOn(t, url)
	run(t, url, `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.name = 'second' THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END IF;
		RETURN NEW; END $$`, `CREATE TRIGGER full_disk BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION full_disk()`)
	both := func() error {
		return s.Atomically(t.Context(), func(tx *storage.Store) error {
			for _, name := range []string{"first", "second"} {
				if _, err := tx.EnsureTenant(t.Context(), name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := both(); !storage.Unavailable(err) {
		t.Errorf("%v is not Unavailable", err)
	}
	if names := tenants(t, url); len(names) > 0 {
		t.Errorf("kept %q of a transaction that failed", names)
	}
	run(t, url, `DROP TRIGGER full_disk ON tenants`)
	if err := both(); err != nil {
		t.Error(err)
	}
}

// When the connection breaks during the commit, nobody knows what became of it, and
// that is what the caller hears.
func TestLostAtTheCommit(t *testing.T) {
	t.Parallel()
	for name, through := range map[string]func(t *testing.T, url string) string{
		"direct":          func(_ *testing.T, url string) string { return url },
		"behind a pooler": func(t *testing.T, url string) string { t.Helper(); return testenv.StartPgBouncer(t, url).URL },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lostAtTheCommit(t, through)
		})
	}
}

func lostAtTheCommit(t *testing.T, through func(t *testing.T, url string) string) {
	t.Helper()
	url := testenv.Postgres(t)
	migrated(t, url)
	proxy := testenv.StartProxy(t, url)
	s := opened(t, through(t, proxy.URL))
	run(t, url, `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$`,
		`CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON tenants DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()`)
	holder := connectTo(t, url)
	if _, err := holder.ExecContext(t.Context(), "SELECT pg_advisory_lock(1)"); err != nil {
		t.Fatal(err)
	}
	lost := make(chan error, 1)
	go func() {
		_, err := s.EnsureTenant(t.Context(), "acme")
		lost <- err
	}()
	// The commit waits for the lock. Tests beside this one wait for such locks in their own databases.
	const waits = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	until(t, func() bool {
		waiting := 0
		err := holder.QueryRowContext(t.Context(), waits).Scan(&waiting)
		return err == nil && waiting > 0
	})
	proxy.Cut()
	if err := <-lost; !errors.Is(err, storage.ErrOutcomeUnknown) || !storage.Unavailable(err) {
		t.Errorf("%v is not ErrOutcomeUnknown", err)
	}
}

// until polls the condition, which must become true.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

// openOn is a store on a migrated database.
func openOn(t *testing.T, url string) *storage.Store {
	t.Helper()
	s, err := storage.Open(t.Context(), storage.Config{URL: url, Keys: ring(t, seal.NewKey()), MaxConns: poolSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// fillPool leaves the store with as many idle connections as it may have.
func fillPool(t *testing.T, s *storage.Store) {
	t.Helper()
	var begun, ended sync.WaitGroup
	begun.Add(poolSize)
	for range poolSize {
		ended.Go(func() {
			err := s.Atomically(t.Context(), func(*storage.Store) error {
				begun.Done()
				begun.Wait()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	ended.Wait()
}

// interrupt does harm while transactions are between their two inserts, and
// returns what becomes of them.
func interrupt(t *testing.T, s *storage.Store, harm func()) <-chan error {
	t.Helper()
	answers := make(chan error, interrupted)
	var between sync.WaitGroup
	between.Add(interrupted)
	done := make(chan struct{})
	for i := range interrupted {
		go func() {
			answers <- s.Atomically(t.Context(), func(tx *storage.Store) error {
				_, err := tx.EnsureTenant(t.Context(), halfName(i, 1))
				between.Done()
				if err != nil {
					return err
				}
				<-done
				_, err = tx.EnsureTenant(t.Context(), halfName(i, 2))
				return err
			})
		}()
	}
	between.Wait()
	harm()
	close(done)
	return answers
}

func halfName(transaction, part int) string { return fmt.Sprintf("half-%d-%d", transaction, part) }

// half is how many rows of each interrupted transaction are kept, before
// recovers writes them all.
func half(t *testing.T, url string) map[int]int {
	t.Helper()
	names := tenants(t, url)
	halves := map[int]int{}
	for i := range interrupted {
		for part := 1; part <= 2; part++ {
			if slices.Contains(names, halfName(i, part)) {
				halves[i]++
			}
		}
	}
	return halves
}

// refusesQuickly asks again and again, at first more at once than the pool has
// connections for: all fail in time, and once the outage is known without waiting.
func refusesQuickly(t *testing.T, s *storage.Store) {
	t.Helper()
	ask := func(write bool) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*refusalTime)
		defer cancel()
		start := time.Now()
		var err error
		if write {
			_, err = s.EnsureTenant(ctx, "meanwhile")
		} else {
			_, err = s.AllKeys(ctx)
		}
		if !storage.Unavailable(err) {
			t.Errorf("meanwhile: %v is not Unavailable", err)
		}
		if took := time.Since(start); took > refusalTime {
			t.Errorf("meanwhile a call took %s", took)
		}
	}
	var all sync.WaitGroup
	for i := range 10 * poolSize {
		all.Go(func() { ask(i%2 == 0) })
	}
	all.Wait()
	start := time.Now()
	for i := range 4 * poolSize {
		if ask(i%2 == 0); time.Since(start) > refusalTime {
			t.Fatalf("the outage is known, and still calls take %s", time.Since(start))
		}
	}
}

// recovers returns when as many calls as the pool has connections succeed at
// once, those among them that need the locks of the interrupted transactions.
func recovers(t *testing.T, s *storage.Store, back time.Time) {
	t.Helper()
	var err error
	for time.Since(back) < recoveryTime {
		if err = writeAll(t.Context(), s); err == nil {
			t.Logf("recovered within %s", time.Since(back))
			return
		}
		if !storage.Unavailable(err) {
			t.Fatalf("after the return: %v is not Unavailable", err)
		}
	}
	t.Fatalf("%s after the return: %v", time.Since(back), err)
}

func writeAll(ctx context.Context, s *storage.Store) error {
	var all sync.WaitGroup
	errs := make([]error, poolSize)
	for i := range errs {
		all.Go(func() { _, errs[i] = s.EnsureTenant(ctx, halfName(i%interrupted, 1+i/interrupted%2)) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// run runs statements on a connection of its own.
func run(t *testing.T, url string, statements ...string) {
	t.Helper()
	conn := connectTo(t, url)
	for _, statement := range statements {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// tenants is every tenant's name.
func tenants(t *testing.T, url string) (names []string) {
	t.Helper()
	rows, err := connectTo(t, url).QueryContext(t.Context(), "SELECT name FROM tenants ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		names = append(names, "")
		if err := rows.Scan(&names[len(names)-1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

func connectTo(t *testing.T, url string) *sql.Conn {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Whoever records attempts waits for no destination that another has locked, but for those
// at it, which are recorded when it is free.
func TestRecordAttemptsWaitsForNoOther(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	s := migrated(t, url)
	tenant, err := s.EnsureTenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	var results []storage.AttemptResult
	for range 2 {
		d, err := s.CreateDestination(t.Context(), storage.NewDestination{
			TenantID: tenant.ID, Kind: storage.KindWebhook, Name: "hook", URL: "https://example.com/in", MaxInFlight: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		delivery, err := s.TestDestination(t.Context(), tenant.ID, d.ID)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, storage.AttemptResult{DeliveryID: delivery.ID, DestinationID: d.ID, Status: storage.DeliveryPending})
	}
	holder := connectTo(t, url)
	for _, statement := range []string{`BEGIN`, `SELECT 1 FROM destinations WHERE id = '` + testenv.UUID(results[0].DestinationID) + `' FOR NO KEY UPDATE`} {
		if _, err := holder.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	failed := func(i int) int {
		d, err := s.Destination(t.Context(), tenant.ID, results[i].DestinationID)
		if err != nil {
			t.Fatal(err)
		}
		return d.ConsecutiveFailures
	}
	recorded := make(chan error, len(results))
	for i := range results {
		go func() { recorded <- s.RecordAttempts(t.Context(), results[i:i+1]) }()
	}
	if err := <-recorded; err != nil {
		t.Errorf("at the one that is not locked: %v", err)
	}
	if failed(0) != 0 || failed(1) != 1 {
		t.Errorf("recorded %d of the locked and %d of the other", failed(0), failed(1))
	}
	if _, err := holder.ExecContext(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if err := <-recorded; err != nil || failed(0) != 1 {
		t.Errorf("with none locked: %v, recorded %d", err, failed(0))
	}
}
