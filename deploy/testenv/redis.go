package testenv

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os/exec"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis returns the URL of an empty Redis that the test has to itself until it ends.
func Redis(t testing.TB) (url string) {
	t.Helper()
	return StartRedis(t).URL
}

// StartRedis starts a Redis server for the test alone and stops it when the
// test ends. It keeps nothing across a restart unless the arguments, which are
// redis-server's own, say so ("--appendonly", "yes").
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

const (
	// readyLimit is when servers that have to agree among themselves count as broken.
	readyLimit = time.Minute
	// askEvery is how often they are asked whether they have.
	askEvery = 50 * time.Millisecond
)

// address is where a Redis server listens: host and port.
func (s *Server) address() string {
	s.t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Host
}

// redis asks a Redis server, which has to answer, if only after a moment.
func (s *Server) redis(ask func(context.Context, *redis.Client) error) {
	s.t.Helper()
	var err error
	client := redis.NewClient(&redis.Options{Addr: s.address()})
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), readyLimit)
	defer cancel()
	if err = ask(ctx, client); err != nil {
		s.t.Fatalf("%s: %v", s.URL, err)
	}
}

// await asks a Redis server until it is as it should be.
func (s *Server) await(ready func(context.Context, *redis.Client) bool) {
	s.t.Helper()
	s.redis(func(ctx context.Context, client *redis.Client) error {
		again := time.NewTicker(askEvery)
		defer again.Stop()
		for !ready(ctx, client) {
			select {
			case <-again.C:
			case <-ctx.Done():
				return errors.New("is not ready")
			}
		}
		return nil
	})
}
