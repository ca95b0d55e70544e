package storage_test

import (
	"errors"
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage"
	"oprelay/storage/seal"
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
	s, err := storage.Open(t.Context(), storage.Config{URL: cluster.URL, Keys: ring(t, seal.NewKey())})
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
