package testenv

import (
	"errors"
	"fmt"
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
