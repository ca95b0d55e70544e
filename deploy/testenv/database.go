package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// Postgres returns the URL of an empty PostgreSQL database that the test has to
// itself until it ends. The database is made in the server at
// RELAY_TEST_DATABASE_URL, whose role must be allowed to create databases, or
// in a throwaway server that the tests of one package share.
func Postgres(t testing.TB) (databaseURL string) {
	t.Helper()
	server := os.Getenv(databaseURLVariable)
	if server == "" {
		cluster, err := sharedCluster()
		if errors.Is(err, ErrNotInstalled) {
			unavailable(t, "PostgreSQL")
		}
		if err != nil {
			t.Fatal(err)
		}
		server = cluster.URL
	}
	name := "oprelay_test_" + strings.ToLower(rand.Text())
	// template0 is the one that nobody can be connected to, which would be in
	// the way of the copy.
	if err := execute(t.Context(), server, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		drop := "DROP DATABASE " + name + " WITH (FORCE)" // a relay under test may still hang on to it
		if err := execute(context.WithoutCancel(t.Context()), server, drop); err != nil {
			t.Error(err)
		}
	})
	return withPath(t, server, name)
}

// sharedCluster starts the server that the tests of this process share, at the
// first call. Nothing closes it: it ends with the process, for no test can know
// that it is the last.
//
//nolint:gochecknoglobals // package testing has no other place that outlives a test without a TestMain in every package
var sharedCluster = sync.OnceValues(func() (*Standalone, error) { return StartPostgres() })

// Execute runs the statements in the database at the URL, with psql.
func Execute(t testing.TB, databaseURL, statements string) {
	t.Helper()
	if err := execute(t.Context(), databaseURL, statements); err != nil {
		t.Fatal(err)
	}
}

func execute(ctx context.Context, server, statement string) error {
	_, err := Query(ctx, server, statement)
	return err
}

// Query runs one statement with PostgreSQL's own client, so that the driver stays
// the storage package's alone, and returns its rows: a line each, "|" between
// their values.
func Query(ctx context.Context, server, statement string) (rows string, err error) {
	psql, err := postgresProgram("psql")
	if err != nil {
		return "", fmt.Errorf("psql: %w", err)
	}
	command := exec.CommandContext(ctx, psql, "--no-psqlrc", "--quiet", "--no-align", "--tuples-only",
		"--dbname", server, "--command", statement)
	printed, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", statement, err, printed)
	}
	return strings.TrimSpace(string(printed)), nil
}

// withPath returns the server's URL with the database's name as its path.
func withPath(t testing.TB, server, database string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("the URL of the test server: %v", err)
	}
	u.Path = "/" + database
	return u.String()
}
