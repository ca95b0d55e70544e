// Command gotest is `go test` that tells a skipped test from a passed one:
//
//	gotest -race ./...
//
// It prints what `go test` prints, the line of each package and the output of
// tests that failed, and at the end the tests that were skipped. With CI=true a
// skipped test is a failure.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	code, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
	}
	os.Exit(code)
}

// run runs go test with the arguments and returns the exit code: go test's own,
// or 1 where a test was skipped that must not be.
func run(arguments []string, out io.Writer) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	c := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, arguments...)...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.Stderr = os.Stderr
	events, err := c.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := c.Start(); err != nil {
		return 1, err
	}
	seen := newReport(out)
	scanner := bufio.NewScanner(events)
	scanner.Buffer(nil, 64<<20) // a line of output may be long
	for scanner.Scan() {
		seen.add(scanner.Bytes())
	}
	err = scanner.Err()
	var exit *exec.ExitError
	switch waitErr := c.Wait(); {
	case errors.As(waitErr, &exit):
		return max(1, exit.ExitCode()), err
	case waitErr != nil || err != nil:
		return 1, errors.Join(waitErr, err)
	}
	strict, err := strconv.ParseBool(os.Getenv("CI"))
	return seen.close(err == nil && strict), nil
}
