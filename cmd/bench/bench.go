package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/cmd/bench/chart"
	"oprelay/deploy/testenv"
	"oprelay/notifier"
)

// bench is what all rows share: the servers, the stand-ins, and what was measured
// before in the same run.
type bench struct {
	options

	relayProgram, self string
	secret             string // what webhooks are signed with
	stderr             io.Writer

	postgres, redis    *testenv.Standalone
	redisClient        *redis.Client
	upstream, receiver *standIn
	databases          int // made so far
	begun              time.Time

	// round is what the rows of this run have measured, by row and measure.
	round map[string]float64
	// points are what was measured at numbers of watches, all runs.
	points []chart.Point

	closers []func() error
}

// newBench builds the relay and starts the servers: PostgreSQL as it is by default,
// every commit on the disk before it is answered, and Redis without persistence,
// which the relay does not need.
func newBench(ctx context.Context, o options, stderr io.Writer) (b *bench, err error) {
	b = &bench{options: o, stderr: stderr, secret: notifier.NewSecret(), begun: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.self, err = os.Executable(); err != nil {
		return b, err
	}
	if err := b.build(ctx); err != nil {
		return b, err
	}
	b.sayf("starting PostgreSQL, Redis and the stand-ins")
	durable := []string{"fsync=on", "synchronous_commit=on", "full_page_writes=on", "max_connections=100"}
	if b.postgres, err = testenv.StartPostgres(durable...); err != nil {
		return b, err
	}
	b.onClose(b.postgres.Close)
	if b.redis, err = testenv.StartRedisServer(); err != nil {
		return b, err
	}
	b.onClose(b.redis.Close)
	if b.redisClient, err = openRedis(b.redis.URL); err != nil {
		return b, err
	}
	b.onClose(b.redisClient.Close)
	if b.upstream, err = startStandIn(b.self, "upstream"); err != nil {
		return b, err
	}
	b.onClose(b.upstream.Close)
	if b.receiver, err = startStandIn(b.self, "receiver", b.secret); err != nil {
		return b, err
	}
	b.onClose(b.receiver.Close)
	return b, nil
}

// build makes the program that is measured, unless one was given.
func (b *bench) build(ctx context.Context) error {
	if err := os.MkdirAll(b.folder, 0o750); err != nil {
		return err
	}
	var err error
	if b.relayProgram, err = filepath.Abs(b.program); b.program != "" || err != nil {
		return err
	}
	b.sayf("building the relay")
	if b.relayProgram, err = filepath.Abs(filepath.Join(b.folder, "relay")); err != nil {
		return err
	}
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").Output()
	if err != nil {
		commit = []byte("unknown") // not in a repository
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-X main.commit="+strings.TrimSpace(string(commit)),
		"-o", b.relayProgram, "oprelay/cmd/relay")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as `make build` has it
	if printed, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the relay: %w\n%s", err, printed)
	}
	return nil
}

func (b *bench) onClose(do func() error) { b.closers = append(b.closers, do) }

func (b *bench) close() error {
	var faults []error
	for _, do := range slices.Backward(b.closers) {
		faults = append(faults, do())
	}
	return errors.Join(faults...)
}

// sayf tells how far it is, to whoever waits.
func (b *bench) sayf(format string, args ...any) { fmt.Fprintf(b.stderr, format+"\n", args...) }

// clear makes everything that the rows share as if nothing had happened.
func (b *bench) clear(ctx context.Context) error {
	return errors.Join(
		b.redisClient.FlushAll(ctx).Err(),
		b.upstream.ask(ctx, "POST", "reset", nil),
		b.receiver.ask(ctx, "POST", "reset", nil),
	)
}

// newDatabase makes an empty one and returns its URL.
func (b *bench) newDatabase(ctx context.Context) (url string, drop func(context.Context) error, err error) {
	b.databases++
	name := fmt.Sprintf("bench_%d", b.databases)
	if _, err := testenv.Query(ctx, b.postgres.URL, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		return "", nil, err
	}
	// What the row before has left to be written would be written during this one.
	if _, err := testenv.Query(ctx, b.postgres.URL, "CHECKPOINT"); err != nil {
		return "", nil, err
	}
	drop = func(ctx context.Context) error {
		_, err := testenv.Query(ctx, b.postgres.URL, "DROP DATABASE "+name+" WITH (FORCE)")
		return err
	}
	return databaseURL(b.postgres.URL, name), drop, nil
}

// surroundings are what was measured, and on what.
type surroundings struct {
	Relay      string `json:"relay"` // as `relay version` has it: version, commit, Go version
	Go         string `json:"go"`    // of the bench and its stand-ins
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	PostgreSQL string `json:"postgresql"`
	Redis      string `json:"redis"`
}

func (b *bench) surroundings(ctx context.Context) (s surroundings, err error) {
	ctx = context.WithoutCancel(ctx) // what was measured before a Ctrl-C is written too
	var faults [4]error
	version, err := exec.CommandContext(ctx, b.relayProgram, "version").Output()
	faults[0] = err
	s.Relay = strings.Join(strings.Split(strings.TrimSpace(string(version)), "\n"), ", ")
	s.Go, s.Processors = runtime.Version(), runtime.NumCPU()
	s.CPU, faults[1] = cpuModel()
	s.PostgreSQL, faults[2] = testenv.Query(ctx, b.postgres.URL, "SHOW server_version")
	s.Redis, faults[3] = b.redisInfo(ctx, "server", "redis_version")
	return s, errors.Join(faults[:]...)
}

// cpuModel is the processors' own name, or the architecture where they have none.
func cpuModel() (string, error) {
	raw, err := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value), nil
		}
	}
	return runtime.GOARCH, err
}
