package testenv

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// guard is the shell script around a server. It starts the server ("$@"),
// tells its process id, and when its own standard input ends sends the server
// the signal $1 and removes the folder $2. The input ends when stop closes it
// and also when the test process dies, however it dies: so a server never
// outlives its test.
const guard = `signal=$1 folder=$2; shift 2
"$@" 2>&1 & echo $!
exec >/dev/null
read -r _
kill -s "$signal" $! 2>/dev/null
wait $! 2>/dev/null
[ -z "$folder" ] || rm -rf "$folder"`

// acceptsConnections is what Redis and PostgreSQL print once they are ready.
const acceptsConnections = "ready to accept connections"

// startAttempts bounds how often a server is started on another port, should
// the port have been taken in between.
const startAttempts = 10

// command is how to run a server and how to end it.
type command struct {
	args       []string            // program and arguments
	stopSignal string              // as kill(1) names it
	ready      string              // what it prints, in lower case, once it is ready; "" = acceptsConnections
	folder     string              // removed after the end; "" = none
	user       *syscall.Credential // nil = who runs the tests
	env        []string            // name=value; nil = as this process's
	log        io.Writer           // gets what it prints; nil = nobody
}

// process is a running server.
type process struct {
	pid   int // of the server itself
	shell *exec.Cmd
	input io.Closer
	ended chan struct{} // closed when everything that the server started is gone
}

// start runs the server and returns once it accepts connections. An error
// carries what the server printed.
func start(c command) (*process, error) {
	args := append([]string{"-c", guard, "guard", c.stopSignal, c.folder}, c.args...)
	shell := exec.Command("sh", args...) //nolint:noctx // stop ends it: it must outlive the context of a test's first lines.
	// A process group of its own keeps the terminal's Ctrl-C away from the
	// server; its messages must be in English to be recognized.
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.user}
	shell.Env = append(slices.Clone(c.env), "LC_ALL=C")
	if c.env == nil {
		shell.Env = append(shell.Environ(), "LC_ALL=C")
	}
	shell.Dir = "/"
	input, err := shell.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.args[0], err)
	}
	output, err := shell.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.args[0], err)
	}
	if err := shell.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.args[0], err)
	}
	p := &process{shell: shell, input: input, ended: make(chan struct{})}
	var printed io.Reader = output
	if c.log != nil {
		printed = io.TeeReader(output, c.log)
	}
	lines := bufio.NewScanner(printed)
	err = p.awaitReady(lines, cmp.Or(c.ready, acceptsConnections))
	go func() { // a server blocks when nobody reads what it prints
		defer close(p.ended)
		for lines.Scan() {
		}
		_, _ = io.Copy(io.Discard, printed) // after a line that is too long for a Scanner
	}()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.args[0], errors.Join(err, p.stop()))
	}
	return p, nil
}

// awaitReady reads the server's process id and then its output up to the line
// that says it is ready.
func (p *process) awaitReady(lines *bufio.Scanner, ready string) error {
	if !lines.Scan() {
		return errors.New("it did not start")
	}
	pid, err := strconv.Atoi(lines.Text())
	if err != nil {
		return fmt.Errorf("its process id: %w", err)
	}
	p.pid = pid
	var printed strings.Builder
	for lines.Scan() {
		if strings.Contains(strings.ToLower(lines.Text()), ready) {
			return nil
		}
		fmt.Fprintln(&printed, lines.Text())
	}
	return fmt.Errorf("it ended, saying:\n%s", printed.String())
}

// stop ends the server and returns when it and its children are gone. It may be
// called once.
func (p *process) stop() error {
	if err := p.input.Close(); err != nil {
		return fmt.Errorf("stop process %d: %w", p.pid, err)
	}
	<-p.ended
	var exit *exec.ExitError
	if err := p.shell.Wait(); err != nil && !errors.As(err, &exit) { // the server's own exit status means nothing: it was killed
		return fmt.Errorf("stop process %d: %w", p.pid, err)
	}
	return nil
}

// startOnFreePort starts the server that at(port) describes on a port that was
// free a moment ago, another one if it was taken in between.
func startOnFreePort(at func(port string) command) (p *process, port string, err error) {
	for range startAttempts {
		port = freePort()
		if p, err = start(at(port)); err == nil {
			return p, port, nil
		}
	}
	return nil, "", err
}

// freePort finds a port below those that the system hands out for outgoing
// connections, so that a server can be stopped and started again on it.
func freePort() string {
	listener := listenOnFreePort()
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		panic(err) // an address of the standard library's own making
	}
	return port
}

// listenOnFreePort takes a port as freePort finds it. Who closes the listener to
// listen there again may find the port taken: a process that another test is starting
// has the listener, too, until it runs its own program.
func listenOnFreePort() net.Listener {
	const lowest, highest = 10_000, 30_000
	for {
		port := strconv.Itoa(lowest + rand.IntN(highest-lowest))
		listener, err := net.Listen("tcp", net.JoinHostPort(loopback, port)) //nolint:noctx // answers at once
		if err == nil {
			return listener
		}
	}
}
