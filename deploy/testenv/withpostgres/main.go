// Command withpostgres runs a command beside a throwaway PostgreSQL server:
//
//	withpostgres go test ./...
//
// The command finds the server's URL in RELAY_TEST_DATABASE_URL. So the tests of
// all packages share one server, instead of each package making its own, which
// takes seconds. Where the variable is set already, or PostgreSQL is not
// installed, the command runs as it is: package testenv says what that means for
// a test. Signals reach the command, its exit code is the program's, and the
// server ends in any case.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"oprelay/deploy/testenv"
)

const (
	databaseURLVariable = "RELAY_TEST_DATABASE_URL"

	// exitFailure is for what goes wrong before the command has an exit code.
	exitFailure = 2
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpostgres:", err)
	}
	os.Exit(code)
}

// run runs the command beside the server and returns its exit code.
func run(command []string) (code int, err error) {
	if len(command) == 0 {
		return exitFailure, errors.New("usage: withpostgres COMMAND [ARGUMENT ...]")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	environment := os.Environ()
	if os.Getenv(databaseURLVariable) == "" {
		cluster, err := testenv.StartPostgres()
		switch {
		case errors.Is(err, testenv.ErrNotInstalled):
			fmt.Fprintln(os.Stderr, "withpostgres: PostgreSQL is not installed, going on without")
		case err != nil:
			return exitFailure, err
		default:
			defer func() { err = errors.Join(err, cluster.Close()) }()
			environment = append(environment, databaseURLVariable+"="+cluster.URL)
		}
	}
	return execute(ctx, command, environment)
}

// execute runs the command and returns its exit code. It asks the command to end
// when ctx does, and waits for it.
func execute(ctx context.Context, command, environment []string) (int, error) {
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) } // which gotestsum passes on
	c.Stdin, c.Stdout, c.Stderr, c.Env = os.Stdin, os.Stdout, os.Stderr, environment
	err := c.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	case err != nil: // not started, or ended by a signal
		return exitFailure, err
	}
	return 0, nil
}
