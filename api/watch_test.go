package api

import (
	"errors"
	"path/filepath"
	"testing"

	"oprelay/storage"
)

// Between the check of a request and its transaction a credential can go.
func TestWhatIsDeletedMeanwhileIsAConflict(t *testing.T) {
	t.Parallel()
	keys, err := storage.ParseKeyring(storage.NewKey())
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
	tenant, err := store.EnsureTenant(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	_, err = createWatches(t.Context(), store, tenant.ID, []NewWatch{{
		OperationID: "4da8780eeb215e6cb7f48dd981c4ea02", AccountID: "023e105f4ecef8ad9ca31a8372d0c353",
		CredentialID:   "credential_01jd8p5kzve6wbdq8rfg0m3c7x",
		DestinationIds: []DestinationID{"destination_01jd8p5kzve6wbdq8rfg0m3c7x"},
	}})
	if !errors.Is(err, errGone) {
		t.Errorf("%v, want %v", err, errGone)
	}
	if status := problemOf(err).kind.status; status != 409 {
		t.Errorf("status %d", status)
	}
}
