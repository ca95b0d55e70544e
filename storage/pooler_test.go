package storage_test

import (
	"strconv"
	"strings"
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// The suite through a PgBouncer in transaction mode, with fewer connections to the
// server than a store has to it: every transaction may be another connection's.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	runMigrated(t, func(t *testing.T) string {
		t.Helper()
		direct := testenv.Postgres(t)
		migrated(t, direct)
		return testenv.StartPgBouncer(t, direct, "default_pool_size = 4").URL
	})
}

func migrated(t *testing.T, url string) *storage.Store {
	t.Helper()
	s := opened(t, url)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func opened(t *testing.T, url string) *storage.Store {
	t.Helper()
	s, err := storage.Open(t.Context(), storage.Config{URL: url, Keys: ring(t, seal.NewKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Migrations need a session, and say so where a pooler would give them none. With
// nothing to do there is nothing to refuse.
func TestMigrateRefusesAPooler(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	pooled := opened(t, testenv.StartPgBouncer(t, direct).URL)
	if _, err := pooled.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "PostgreSQL itself") {
		t.Errorf("through a pooler: %v", err)
	}
	migrated(t, direct)
	if applied, err := pooled.Migrate(t.Context()); err != nil || len(applied) > 0 {
		t.Errorf("with nothing to do: %v, %v", applied, err)
	}
}

// A PgBouncer that has no connection left for another process says so, and the
// error what to do.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	migrated(t, direct)
	const most = 3
	pooler := testenv.StartPgBouncer(t, direct, "max_client_conn = "+strconv.Itoa(most)).URL
	var err error
	for range most + 1 {
		var s *storage.Store
		s, err = storage.Open(t.Context(), storage.Config{URL: pooler, Keys: ring(t, seal.NewKey())})
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = s.Close() }) // until then it keeps a connection
	}
	if !storage.Unavailable(err) || !strings.Contains(err.Error(), "RELAY_DATABASE_MAX_CONNS") {
		t.Errorf("%v; want an error that is Unavailable and names RELAY_DATABASE_MAX_CONNS", err)
	}
}
