package testenv

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"oprelay/deploy"
)

// StartPgBouncer starts a PgBouncer for the test alone, as deploy/pgbouncer.ini has
// it, before the database at the URL, and stops it when the test ends. The server's
// URL is the database's, through it. The settings, of the form name = value, come
// on top. RELAY_TEST_DATABASE_URL must not ask for TLS.
func StartPgBouncer(t testing.TB, databaseURL string, settings ...string) *Server {
	t.Helper()
	program, err := pgBouncerProgram()
	if err != nil {
		unavailable(t, "PgBouncer")
	}
	database, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatalf("the URL of the database: %v", err)
	}
	folder := folderForAll(t)
	account, err := unprivileged(folder) // PgBouncer refuses to be root, too
	if err != nil {
		t.Fatal(err)
	}
	password, _ := database.User.Password()
	users := filepath.Join(folder, "userlist.txt")
	writeFor(t, users, fmt.Sprintf("%q %q\n", database.User.Username(), password))
	s, port := startServer(t, func(port string) command {
		file := filepath.Join(folder, port+".ini")
		writeFor(t, file, before(t, database)+strings.Join(append([]string{
			"listen_port = " + port, "auth_type = trust", "auth_file = " + users, "unix_socket_dir =",
		}, settings...), "\n")+"\n")
		return command{user: account, stopSignal: "KILL", ready: "process up", args: []string{program, file}}
	})
	database.Host = net.JoinHostPort(loopback, port)
	s.URL = database.String()
	return s
}

// before is the example's configuration, with another database.
func before(t testing.TB, database *url.URL) string {
	t.Helper()
	const example = "relay = host=127.0.0.1 port=5432 dbname=relay"
	name := strings.TrimPrefix(database.Path, "/")
	ours := fmt.Sprintf("%[1]s = host=%[2]s port=%[3]s dbname=%[1]s", name, database.Hostname(), cmp.Or(database.Port(), "5432"))
	if strings.Count(deploy.PgBouncerINI, example) != 1 {
		t.Fatalf("pgbouncer.ini has no line %q", example)
	}
	return strings.Replace(deploy.PgBouncerINI, example, ours, 1)
}

// writeFor writes a file that every account may read.
func writeFor(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// pgBouncerProgram finds PgBouncer in PATH or where Debian keeps it, out of the
// PATH of all but root.
func pgBouncerProgram() (string, error) {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/pgbouncer")
}
