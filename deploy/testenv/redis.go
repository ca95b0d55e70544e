package testenv

import (
	"net"
	"os/exec"
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

// StartRedis starts a Redis server for the test alone and stops it when the
// test ends. It keeps nothing across a restart unless the arguments, which are
// redis-server's own, say so ("--appendonly", "yes"). RELAY_TEST_REDIS_URL has
// no say here: nobody's running server is to be killed.
func StartRedis(t testing.TB, arguments ...string) *Server {
	t.Helper()
	return startRedis(t, func(string) []string { return arguments })
}

// startRedis is StartRedis with arguments that may depend on the server's folder
// and are made anew for each try.
func startRedis(t testing.TB, arguments func(folder string) []string) *Server {
	t.Helper()
	program := redisServer(t)
	folder := t.TempDir()
	s, port := startServer(t, func(port string) command {
		return command{stopSignal: "KILL", args: append([]string{
			program, "--port", port, "--bind", loopback, "--dir", folder, "--daemonize", "no", "--save", "",
		}, arguments(folder)...)}
	})
	s.URL = "redis://" + net.JoinHostPort(loopback, port) + "/0"
	return s
}

// startServer starts a server of the test's own on a free port.
func startServer(t testing.TB, at func(port string) command) (s *Server, port string) {
	t.Helper()
	s = &Server{t: t}
	p, port, err := startOnFreePort(func(port string) command {
		s.command = at(port)
		return s.command
	})
	if err != nil {
		t.Fatal(err)
	}
	s.process = p
	t.Cleanup(s.Kill)
	return s, port
}

func redisServer(t testing.TB) (program string) {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		unavailable(t, "redis-server")
	}
	return program
}
