package storage_test

import (
	"path/filepath"
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage/storagetest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) string {
		t.Helper()
		return "sqlite:" + filepath.Join(t.TempDir(), "relay.db")
	})
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) string {
		t.Helper()
		return testenv.Postgres(t)
	})
}
