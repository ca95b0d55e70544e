// Command relay watches asynchronous operations and tells webhooks and Slack how
// they ended.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // to silence it
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
)

// The exit codes of every command.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2 // the command line or the configuration is wrong; nothing was started
)

// collectAt is how much the heap has grown by, in percent, when garbage is collected.
// A worker allocates much and keeps little: half of the collections are a tenth of its
// processor time, for a fifth more memory at its most.
const collectAt = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	signal.Ignore(syscall.SIGPIPE)  // a reader that went away is an error of the write, so that deferred clean-up runs
	redis.SetLogger(silence{})      // the relay logs an outage itself, once
	otel.SetErrorHandler(silence{}) // and what becomes of its spans
	otel.SetLogger(logr.Discard())
	log.SetOutput(io.Discard) // net/http quotes there what a receiver sends unasked, which may be our own request
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// silence takes what go-redis and OpenTelemetry would print on stderr, line by line.
type silence struct{}

// Handle says nothing.
func (silence) Handle(error) {}

// Printf says nothing.
func (silence) Printf(context.Context, string, ...any) {}

// run is the program: args without its name, getenv for the configuration.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	out := &checkedWriter{Writer: stdout}
	root := newRoot(getenv)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = failed(fmt.Errorf("write the output: %w", out.err))
	}
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = failed(errors.New("interrupted"))
	}
	fmt.Fprintln(stderr, "relay:", err)
	if failure := (failedError{}); errors.As(err, &failure) {
		return exitError
	}
	return exitUsage
}

// checkedWriter remembers the first write that failed, so that no command needs to
// look at each.
type checkedWriter struct {
	io.Writer

	err error
}

func (w *checkedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// failedError marks an error of a command that was called rightly. Every other
// error is about the command line or the configuration.
type failedError struct{ error }

func (e failedError) Unwrap() error { return e.error }

// failed marks err, nil included, as a failure of the work itself.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return failedError{err}
}
