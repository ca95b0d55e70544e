package testenv

import (
	"errors"
	"os"
	"testing"
)

// StartPostgresServer starts a PostgreSQL server for the test alone, which takes
// seconds, and stops it when the test ends. What was committed outlives Kill: its
// processes die, never the machine, so nothing is synchronised to the disk. There
// is room for connections that an outage has left behind beside those that took
// their place. The settings are of the form name=value. RELAY_TEST_DATABASE_URL has
// no say here: nobody's running server is to be killed.
func StartPostgresServer(t testing.TB, settings ...string) *Server {
	t.Helper()
	server, err := initPostgres(folderForAll(t))
	if errors.Is(err, ErrNotInstalled) {
		unavailable(t, "PostgreSQL")
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t}
	p, port, err := startOnFreePort(func(port string) command {
		s.command = command{user: server.account, stopSignal: "QUIT", args: server.arguments(port,
			append([]string{"max_connections=400", "fsync=off", "full_page_writes=off"}, settings...)...)}
		return s.command
	})
	if err != nil {
		t.Fatal(err)
	}
	s.process = p
	t.Cleanup(s.Kill)
	const database = "relay"
	if err := execute(t.Context(), postgresURL(port), "CREATE DATABASE "+database+" TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	s.URL = withPath(t, postgresURL(port), database)
	return s
}

// folderForAll is a folder that goes with the test and may be given to another
// account.
func folderForAll(t testing.TB) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "oprelay-") //nolint:usetesting // t.TempDir is closed to the account that runs the server
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	return folder
}
