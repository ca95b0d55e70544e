package storage_test

import (
	"testing"

	"go.jetify.com/typeid/v2"

	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// inSQL is an id as the database has it.
func inSQL(id string) sqldb.UUID {
	known, err := typeid.Parse(id)
	if err != nil {
		panic(err) // of an id that is none
	}
	return sqldb.UUID(known.Bytes())
}

func ring(t *testing.T, spec string) *seal.Keyring {
	t.Helper()
	keys, err := seal.ParseKeyring(spec)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
