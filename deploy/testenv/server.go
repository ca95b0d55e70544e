package testenv

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Server is a server of the test's own that it may break. Its methods may be
// called from any goroutine; they fail the test when the machine refuses.
type Server struct {
	// URL is where the server listens, the same across restarts.
	URL string

	t       testing.TB
	command command
	mu      sync.Mutex
	process *process // nil while killed
}

// Kill ends every process of the server as kill -9 does. Killing it twice is
// killing it once.
func (s *Server) Kill() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	s.signal(syscall.SIGKILL)
	if err := s.process.stop(); err != nil {
		s.t.Error(err)
	}
	s.process = nil
}

// Restart kills the server if it runs and starts it again on the same port, with
// what it kept.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := start(s.command)
	if err != nil {
		s.t.Errorf("restart: %v", err)
		return
	}
	s.process = p
}

// Pause freezes the server, all its processes (SIGSTOP): connections stay open,
// nothing answers.
func (s *Server) Pause() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signal(syscall.SIGSTOP)
}

// Resume lets a paused server go on (SIGCONT).
func (s *Server) Resume() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signal(syscall.SIGCONT)
}

// signal reaches every process of the server: PostgreSQL's are each in a group of
// their own. Their parent stands still meanwhile, so that it does not start
// another. s.mu is held.
func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.process == nil {
		s.t.Errorf("%v for a server that was killed", sig)
		return
	}
	if err := syscall.Kill(s.process.pid, syscall.SIGSTOP); err != nil {
		s.t.Errorf("%v: %v", sig, err)
		return
	}
	children, err := childrenOf(s.process.pid)
	if err != nil {
		s.t.Error(err)
	}
	for _, pid := range append(children, s.process.pid) {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) { // it may have just ended
			s.t.Errorf("%v for process %d: %v", sig, pid, err)
		}
	}
}

// childrenOf lists the processes that the process has started and that are not
// gone. It asks ps, as not every system has /proc.
func childrenOf(parent int) ([]int, error) {
	printed, err := exec.Command("ps", "-A", "-o", "pid=", "-o", "ppid=").Output() //nolint:noctx // ends by itself
	if err != nil {
		return nil, fmt.Errorf("ps: %w", err)
	}
	var children []int
	for line := range strings.Lines(string(printed)) {
		var pid, ppid int
		if _, err := fmt.Sscan(line, &pid, &ppid); err == nil && ppid == parent {
			children = append(children, pid)
		}
	}
	return children, nil
}

// Standalone is a server that belongs to no test. It ends with Close or with the
// calling process, however that ends.
type Standalone struct {
	URL string

	process *process
}

// PID is the process id of the server itself, whose children may do its work.
func (s *Standalone) PID() int { return s.process.pid }

// Close stops the server and removes the files that are its own.
func (s *Standalone) Close() error { return s.process.stop() }

// StartRedisServer starts a Redis that keeps nothing across a restart unless the
// arguments, which are redis-server's own, say so.
func StartRedisServer(arguments ...string) (*Standalone, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "oprelay-redis-")
	if err != nil {
		return nil, err
	}
	p, port, err := startOnFreePort(func(port string) command {
		_ = os.Mkdir(folder, 0o700) // the try before, whose port was taken, has removed it
		return command{stopSignal: "KILL", folder: folder, args: append([]string{
			program, "--port", port, "--bind", loopback, "--dir", folder, "--daemonize", "no", "--save", "",
		}, arguments...)}
	})
	if err != nil {
		return nil, err
	}
	return &Standalone{process: p, URL: "redis://" + net.JoinHostPort(loopback, port) + "/0"}, nil
}

// Service is how to run one of our own programs as a Standalone.
type Service struct {
	// Args are the program and its arguments, made for a free port of 127.0.0.1.
	Args func(port string) []string
	// Env is its whole environment, name=value, for the same port.
	Env func(port string) []string
	// Ready is what it prints, in lower case, once it is up.
	Ready string
	// Log gets all that it prints.
	Log io.Writer
}

// StartService starts the program and returns once it says that it is up. Its URL
// is http://, with the port that it was given. Close kills it.
func StartService(s Service) (*Standalone, error) {
	p, port, err := startOnFreePort(func(port string) command {
		return command{stopSignal: "KILL", ready: s.Ready, args: s.Args(port), env: s.Env(port), log: s.Log}
	})
	if err != nil {
		return nil, err
	}
	return &Standalone{process: p, URL: "http://" + net.JoinHostPort(loopback, port)}, nil
}
