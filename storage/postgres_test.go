package storage_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"oprelay/deploy/testenv"
	"oprelay/storage"
)

// TestUnavailableWhenTheServerIsGone: what fails because PostgreSQL went away is
// told from a bug, on connections that were open and on new ones.
func TestUnavailableWhenTheServerIsGone(t *testing.T) {
	t.Parallel()
	testenv.Postgres(t) // skips where there is no PostgreSQL
	cluster, err := testenv.StartPostgres()
	if errors.Is(err, testenv.ErrNotInstalled) {
		t.Log("the PostgreSQL of the tests is elsewhere, and there is none here to be stopped")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := storage.Open(t.Context(), storage.Config{URL: cluster.URL, Keys: ring(t, storage.NewKey())})
	if err != nil {
		t.Fatal(errors.Join(err, cluster.Close()))
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Error(err)
	}
	err = s.Atomically(t.Context(), func(tx *storage.Store) error {
		if _, err := tx.EnsureTenant(t.Context(), "acme"); err != nil {
			return err
		}
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
		_, err := tx.EnsureTenant(t.Context(), "other")
		return err
	})
	if !storage.Unavailable(err) {
		t.Errorf("in a transaction: %v is not Unavailable", err)
	}
	for range 3 {
		if _, err := s.EnsureTenant(t.Context(), "acme"); !storage.Unavailable(err) {
			t.Errorf("after: %v is not Unavailable", err)
		}
	}
}

// TestUnavailableByCode: what PostgreSQL says decides whether to come back later.
func TestUnavailableByCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"08006": true,  // connection_failure
		"25006": true,  // read_only_sql_transaction
		"25P03": true,  // idle_in_transaction_session_timeout
		"40001": true,  // serialization_failure
		"53100": true,  // disk_full
		"53300": true,  // too_many_connections
		"57014": true,  // query_canceled
		"57P01": true,  // admin_shutdown
		"57P02": true,  // crash_shutdown
		"57P03": true,  // cannot_connect_now
		"57P04": true,  // database_dropped
		"57P05": true,  // idle_session_timeout
		"58030": true,  // io_error
		"22P02": false, // invalid_text_representation
		"23505": false, // unique_violation
		"42P01": false, // undefined_table
		"57000": false, // operator_intervention
	} {
		err := fmt.Errorf("some operation: %w", &pgconn.PgError{Code: code})
		if storage.Unavailable(err) != want {
			t.Errorf("SQLSTATE %s: Unavailable is %t, want %t", code, !want, want)
		}
	}
}
