package storage_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oprelay/storage"
	"oprelay/storage/seal"
)

func TestOpenRefusesURLs(t *testing.T) {
	t.Parallel()
	keys := ring(t, seal.NewKey())
	for url, says := range map[string]string{
		"":                                  "must be sqlite:PATH",
		"mysql://x":                         "must be sqlite:PATH",
		"sqlite:":                           "needs the path",
		"sqlite::memory:":                   "refused",
		"sqlite:file::memory:":              "refused",
		"sqlite:///abs/relay.db":            "without //",
		"sqlite:relay.db?mode=x":            "no options",
		"sqlite:/no/such/dir/db":            "no such file or directory",
		"postgres://u:hidden@h:notaport/db": "is not a valid postgres://",
	} {
		_, err := storage.Open(t.Context(), storage.Config{URL: url, Keys: keys})
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v; want an error that says %q", url, err, says)
		}
	}
}

func TestOpenRefusesDeadServer(t *testing.T) {
	t.Parallel()
	_, err := storage.Open(t.Context(), storage.Config{
		URL: "postgres://u:hidden@127.0.0.1:1/db?connect_timeout=1", Keys: ring(t, seal.NewKey()),
	})
	if err == nil || !storage.Unavailable(err) || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%v; want an error that is Unavailable and hides the password", err)
	}
}

func TestSQLiteFileIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "with space%20.db")
	s, err := storage.Open(t.Context(), storage.Config{URL: "sqlite:" + path, Keys: ring(t, seal.NewKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", info.Name(), mode)
		}
	}
}
