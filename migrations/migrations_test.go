package migrations

import (
	"embed"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// read returns the names of a folder's files in order, and all their text.
func read(t *testing.T, files embed.FS, folder string) (names []string, text string) {
	t.Helper()
	entries, err := fs.ReadDir(files, folder)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, entry := range entries {
		content, err := fs.ReadFile(files, folder+"/"+entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, entry.Name())
		all.Write(content)
	}
	return names, all.String()
}

// shape returns every table, column, index and constraint, as a whole statement, without what
// differs between the databases: types, collations, rows without ids, who numbers them, and references.
func shape(text string) []string {
	text = regexp.MustCompile(`--[^\n]*| REFERENCES \w+ \(\w+\)| COLLATE "C"| STRICT| GENERATED ALWAYS AS IDENTITY|, WITHOUT ROWID`).ReplaceAllString(text, "")
	for from, to := range map[string]string{`BYTEA`: "BLOB", `UUID`: "BLOB", `BIGINT`: "INTEGER", `BOOLEAN`: "INTEGER"} {
		text = strings.ReplaceAll(text, from, to)
	}
	var all []string
	for statement := range strings.SplitSeq(text, ";") {
		if statement = strings.Join(strings.Fields(statement), " "); statement != "" {
			all = append(all, statement)
		}
	}
	return all
}

func TestBothDatabasesHaveTheSameSchema(t *testing.T) {
	t.Parallel()
	postgresNames, postgres := read(t, Postgres, "postgres")
	sqliteNames, sqlite := read(t, SQLite, "sqlite")
	if !slices.Equal(postgresNames, sqliteNames) {
		t.Fatalf("postgres has %v, sqlite has %v", postgresNames, sqliteNames)
	}
	p, s := shape(postgres), shape(sqlite)
	if len(p) != len(s) {
		t.Fatalf("postgres has %d statements, sqlite has %d", len(p), len(s))
	}
	for i := range p {
		if p[i] != s[i] {
			t.Errorf("postgres: %s\nsqlite:   %s", p[i], s[i])
		}
	}
}

func TestMigrationsGoOnlyForward(t *testing.T) {
	t.Parallel()
	for folder, files := range map[string]embed.FS{"postgres": Postgres, "sqlite": SQLite} {
		_, text := read(t, files, folder)
		if strings.Contains(text, "+goose Down") {
			t.Errorf("%s has a down migration; README.md says why there are none", folder)
		}
	}
}
