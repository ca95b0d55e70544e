package storage

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// What a database lacks is named, whatever version it says that it has; what it has beside is
// its owner's.
func TestCheckSchemaNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { t.Helper(); return "sqlite:" + t.TempDir() + "/relay.db" },
		"postgres": func(t *testing.T) string { t.Helper(); return testenv.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := get(Open(t.Context(), Config{URL: url(t), Keys: &seal.Keyring{}}))(t)
			t.Cleanup(func() { _ = s.Close() })
			get(s.Migrate(t.Context()))(t)
			change := func(statement string) {
				t.Helper()
				_, err := sqldb.ExecCount(t.Context(), s.db.Writer(), statement)
				check(t, err)
			}
			change(`CREATE TABLE theirs (id TEXT)`)
			change(`ALTER TABLE tenants ADD COLUMN theirs TEXT`)
			check(t, s.CheckSchema(t.Context()))

			if _, err := s.MigrationStatus(t.Context()); err != nil {
				t.Error(err)
			}
			for _, column := range []string{"status", "operation_id"} {
				change(`ALTER TABLE watches ADD COLUMN ` + column + ` TEXT`)
				if _, err := s.MigrationStatus(t.Context()); err == nil || !strings.Contains(err.Error(), "begin with an empty one") {
					t.Errorf("a database of before the first release, with watches.%s: %v", column, err)
				}
				change(`ALTER TABLE watches DROP COLUMN ` + column)
			}

			change(`ALTER TABLE steady_clock DROP COLUMN wall`)
			change(`DROP TABLE idempotency_keys`)
			unique := ""
			for _, wanted := range madeSchema(t) {
				if !strings.Contains(wanted, ".") {
					unique = wanted
				}
			}
			change(`DROP INDEX ` + unique)
			err := s.CheckSchema(t.Context())
			want := "lacks the column steady_clock.wall, the table idempotency_keys, the unique index " + unique + ", though"
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}

			kind := map[string]string{"sqlite": "BLOB", "postgres": "UUID"}[name]
			change(`ALTER TABLE tenants RENAME TO numbered`)
			change(`CREATE TABLE tenants (id ` + kind + ` PRIMARY KEY)`)
			if _, err := s.MigrationStatus(t.Context()); err == nil || !strings.Contains(err.Error(), "begin with an empty one") {
				t.Errorf("a database of before the first release, with tenants that have no number: %v", err)
			}
		})
	}
}

// An index in the order of a language costs more, and is wrong once another version of the system
// orders otherwise: the order of bytes is the same everywhere.
func TestIndexedTextsGoByTheirBytes(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	s := get(Open(t.Context(), Config{URL: url, Keys: &seal.Keyring{}}))(t)
	t.Cleanup(func() { _ = s.Close() })
	get(s.Migrate(t.Context()))(t)
	const columns = `SELECT i.indrelid::regclass || '.' || a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indexrelid
		JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace AND a.attcollation `
	if others := get(testenv.Query(t.Context(), url, columns+`NOT IN (0, 'pg_catalog."C"'::regcollation)`))(t); others != "" {
		t.Errorf("without COLLATE \"C\":\n%s", others)
	}
	if get(testenv.Query(t.Context(), url, columns+`= 'pg_catalog."C"'::regcollation`))(t) == "" {
		t.Error("no index has a text")
	}
}

var updateSchema = flag.Bool("update", false, "write schema.txt anew")

// The schema that a start looks for is the one that the migrations make.
func TestWantedSchema(t *testing.T) {
	t.Parallel()
	made := madeSchema(t)
	slices.Sort(made)
	text := strings.Join(made, "\n") + "\n"
	if *updateSchema {
		check(t, os.WriteFile("schema.txt", []byte(text), 0o600))
		return
	}
	if text != wantedSchema {
		t.Error("schema.txt is not what the migrations make: run go test ./storage -run TestWantedSchema -update")
	}
}

// madeSchema is what the migrations make of an empty SQLite, and so of PostgreSQL too.
func madeSchema(t *testing.T) []string {
	t.Helper()
	s := get(Open(t.Context(), Config{URL: "sqlite:" + t.TempDir() + "/empty.db", Keys: &seal.Keyring{}}))(t)
	defer func() { check(t, s.Close()) }()
	get(s.Migrate(t.Context()))(t)
	return get(s.schema(t.Context()))(t)
}
