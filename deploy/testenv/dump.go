package testenv

import (
	"os/exec"
	"testing"
)

// DumpPostgres is all that the database at the URL holds, as SQL: bytes in
// hexadecimal after \x, text as it is.
func DumpPostgres(t testing.TB, databaseURL string) []byte {
	t.Helper()
	dump, err := postgresProgram("pg_dump")
	if err != nil {
		unavailable(t, "PostgreSQL")
	}
	printed, err := exec.CommandContext(t.Context(), dump, "--no-password", "--dbname", databaseURL).Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	return printed
}
