package testenv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

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
