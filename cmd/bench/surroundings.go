package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"oprelay/deploy/testenv"
)

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
