package api

import (
	"errors"
	"path/filepath"
	"testing"

	"oprelay/storage"
	"oprelay/storage/seal"
)

// What a registration missed can be there again when it is asked why.
func TestWhatIsBackMeanwhileIsAConflict(t *testing.T) {
	t.Parallel()
	keys, err := seal.ParseKeyring(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(t.Context(), storage.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "relay.db"), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := &Server{store: store}
	err = server.explainMissing(t.Context(), "tenant_01jd8p5kzve6wbdq8rfg0m3c7x", nil, registration{faults: &faults{}}) // nothing is missing by now
	if !errors.Is(err, errGone) {
		t.Errorf("%v, want %v", err, errGone)
	}
	if status := problemOf(err).kind.status; status != 409 {
		t.Errorf("status %d", status)
	}
}
