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

// The exit codes of every command; wait.go has those that tell how a watch ended.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2 // the command line or the configuration is wrong; nothing was started
)

// gcPercent is GOGC's default here. A worker allocates much and keeps little: half as
// many collections save a tenth of its processor time, for a fifth more memory in a burst.
// A memory limit instead would have a process that keeps more than it do nothing but collect.
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	signal.Ignore(syscall.SIGPIPE)  // a reader that went away is an error of the write, so that deferred clean-up runs
	redis.SetLogger(silence{})      // the relay logs an outage itself, once
	otel.SetErrorHandler(silence{}) // and what becomes of its spans
	otel.SetLogger(logr.Discard())
	log.SetOutput(io.Discard) // net/http quotes there what a receiver sends unasked, which may be our own request
	ctx, stop := signal.NotifyContext(context.Background(), stopSignals()...)
	code := run(ctx, os.Args[1:], environmentOf(os.Environ()), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// stopSignals are those that stop the process once what is in flight has finished.
// A process that nohup started with SIGHUP ignored goes on ignoring it. SIGQUIT is Go's:
// it prints every goroutine's stack and ends the process at once.
func stopSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// silence takes what go-redis and OpenTelemetry would print on stderr, line by line.
type silence struct{}

// Handle says nothing.
func (silence) Handle(error) {}

// Printf says nothing.
func (silence) Printf(context.Context, string, ...any) {}

// run is the program: args without its name, env for the configuration.
func run(ctx context.Context, args []string, env environment, stdout, stderr io.Writer) int {
	out := &checkedWriter{Writer: stdout}
	root := newRoot(env, out, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	// Who has read some of the output and goes, as head does, has seen enough.
	seenEnough := out.some && errors.Is(out.err, syscall.EPIPE) && (err == nil || errors.Is(err, syscall.EPIPE))
	if err == nil && out.err != nil {
		err = failed(fmt.Errorf("write the output: %w", out.err))
	}
	if err == nil {
		return exitOK
	}
	if code := exitCodeError(0); errors.As(err, &code) {
		return int(code)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = failed(errors.New("interrupted"))
	}
	if !seenEnough {
		fmt.Fprintln(stderr, "relay:", err)
	}
	if failure := (failedError{}); errors.As(err, &failure) {
		return exitError
	}
	return exitUsage
}

// checkedWriter remembers the first write that failed, so that no command needs to
// look at each.
type checkedWriter struct {
	io.Writer

	some bool // a write succeeded
	err  error
}

func (w *checkedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.some = w.some || err == nil
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// exitCodeError is the error of a command that has said all there is to say.
type exitCodeError int

func (c exitCodeError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

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
