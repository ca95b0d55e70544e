package testenv

import (
	"net"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// Redis returns the URL of an empty Redis that the test has to itself until it
// ends: a server of its own or, where RELAY_TEST_REDIS_URL is set, one of that
// server's logical databases.
func Redis(t testing.TB) (url string) {
	t.Helper()
	if url, ok := borrowRedis(t); ok {
		return url
	}
	return StartRedis(t).URL
}

// RedisServer is a Redis of the test's own that it may break. Its methods may
// be called from any goroutine; they end the test when the machine refuses.
type RedisServer struct {
	// URL is where the server listens, the same across restarts.
	URL string

	t       testing.TB
	command command
	mu      sync.Mutex
	process *process // nil while killed
}

// StartRedis starts a Redis server for the test alone and stops it when the
// test ends. It keeps nothing across a restart unless the arguments, which are
// redis-server's own, say so ("--appendonly", "yes"). RELAY_TEST_REDIS_URL has
// no say here: nobody's running server is to be killed.
func StartRedis(t testing.TB, arguments ...string) *RedisServer {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		unavailable(t, "redis-server")
	}
	s := &RedisServer{t: t}
	folder := t.TempDir()
	p, port, err := startOnFreePort(func(port string) command {
		s.command = command{stopSignal: "KILL", args: append([]string{
			program, "--port", port, "--bind", loopback, "--dir", folder, "--daemonize", "no", "--save", "",
		}, arguments...)}
		return s.command
	})
	if err != nil {
		t.Fatal(err)
	}
	s.process, s.URL = p, "redis://"+net.JoinHostPort(loopback, port)+"/0"
	t.Cleanup(s.Kill)
	return s
}

// Kill ends the server as kill -9 does. Killing it twice is killing it once.
func (s *RedisServer) Kill() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	if err := s.process.stop(); err != nil {
		s.t.Error(err)
	}
	s.process = nil
}

// Restart kills the server if it runs and starts it again on the same port.
func (s *RedisServer) Restart() {
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

// Pause freezes the server (SIGSTOP): connections stay open, nothing answers.
func (s *RedisServer) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Resume lets a paused server go on (SIGCONT).
func (s *RedisServer) Resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

func (s *RedisServer) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		s.t.Errorf("%v for a Redis that was killed", sig)
		return
	}
	if err := syscall.Kill(s.process.pid, sig); err != nil {
		s.t.Errorf("%v for Redis: %v", sig, err)
	}
}
