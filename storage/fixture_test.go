package storage_test

import (
	"testing"

	"oprelay/storage/seal"
)

func ring(t *testing.T, spec string) *seal.Keyring {
	t.Helper()
	keys, err := seal.ParseKeyring(spec)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
