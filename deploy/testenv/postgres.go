package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.jetify.com/typeid/v2"
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

// UUID is what PostgreSQL has of a TypeID.
func UUID(id string) string {
	known, err := typeid.Parse(id)
	if err != nil {
		panic(err) // of an id that is none
	}
	return known.UUID()
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

// sharedMemoryInFolder has what a killed server leaves behind removed with its folder.
const sharedMemoryInFolder = "dynamic_shared_memory_type=mmap"

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
			append([]string{"max_connections=400", "fsync=off", "full_page_writes=off", sharedMemoryInFolder}, settings...)...)}
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

// ErrNotInstalled says that PostgreSQL's programs are not on this machine.
var ErrNotInstalled = errors.New("PostgreSQL is not installed")

// StartPostgres starts a throwaway PostgreSQL server, whose URL is its maintenance
// database as the superuser and whose files go with it. It trusts everybody on
// this machine and, unless settings of the form name=value say otherwise, does
// not care whether its data survive a crash. The error is ErrNotInstalled where
// there is nothing to start.
func StartPostgres(settings ...string) (*Standalone, error) {
	folder, err := os.MkdirTemp("", "oprelay-postgres-")
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	server, err := initPostgres(folder)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	port := freePort()
	p, err := start(command{user: server.account, stopSignal: "QUIT", folder: folder, args: server.arguments(port,
		append([]string{"max_connections=1000", "fsync=off", "synchronous_commit=off", "full_page_writes=off"}, settings...)...)})
	if err != nil {
		return nil, err
	}
	return &Standalone{process: p, URL: postgresURL(port)}, nil
}

// initialized is a PostgreSQL whose data folder is made.
type initialized struct {
	program, data string
	account       *syscall.Credential // who runs it
}

// initPostgres makes the data of a new server in the folder, which it gives to
// the account that runs it.
func initPostgres(folder string) (initialized, error) {
	initdb, err := postgresProgram("initdb")
	if err != nil {
		return initialized{}, err
	}
	postgres, err := postgresProgram("postgres")
	if err != nil {
		return initialized{}, err
	}
	account, err := unprivileged(folder)
	if err != nil {
		return initialized{}, fmt.Errorf("start PostgreSQL: %w", err)
	}
	data := filepath.Join(folder, "data")
	create := exec.Command(initdb, "--pgdata", data, "--username", "postgres", //nolint:noctx // ends by itself
		"--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
	create.Dir = folder
	create.SysProcAttr = &syscall.SysProcAttr{Credential: account}
	if printed, err := create.CombinedOutput(); err != nil {
		return initialized{}, fmt.Errorf("initdb: %w\n%s", err, printed)
	}
	return initialized{program: postgres, data: data, account: account}, nil
}

// arguments is how to run the server on the port, with settings of the form
// name=value.
func (i initialized) arguments(port string, settings ...string) []string {
	arguments := []string{
		i.program, "-D", i.data, "-p", port, "-c", "listen_addresses=" + loopback, "-c", "unix_socket_directories=",
	}
	for _, setting := range settings {
		arguments = append(arguments, "-c", setting)
	}
	return arguments
}

// postgresURL is the maintenance database of the server on the port.
func postgresURL(port string) string {
	return "postgres://postgres@" + net.JoinHostPort(loopback, port) + "/postgres?sslmode=disable"
}

// unprivileged returns who is to run PostgreSQL, which refuses to be root: nil
// for whoever runs the tests or, if that is root, the account of Debian's
// package or nobody, which the folder is given to.
func unprivileged(folder string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil is syscall's way to say: the same user
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		if account, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", account.Username, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", account.Username, err)
	}
	if err := os.Chown(folder, int(uid), int(gid)); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// postgresProgram finds one of PostgreSQL's programs in PATH or where Debian
// and Homebrew keep them: in a folder per version, the newest of which is taken.
func postgresProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/", "/usr/pgsql-*/bin/", "/opt/homebrew/opt/postgresql@*/bin/"} {
		matches, err := filepath.Glob(pattern + name)
		if err != nil {
			return "", fmt.Errorf("find %s: %w", name, err)
		}
		found = append(found, matches...)
	}
	if len(found) == 0 {
		return "", ErrNotInstalled
	}
	return slices.Max(found), nil
}

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
