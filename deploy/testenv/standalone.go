package testenv

import (
	"io"
	"net"
	"os"
	"os/exec"
)

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
