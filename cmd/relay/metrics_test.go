package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// What a relay exports is named by Prometheus's conventions, and is what
// deploy/README.md tells of: no more, no less.
func TestMetricsAreWellNamedAndDocumented(t *testing.T) {
	t.Parallel()
	p := startInProcess(t)
	problems, err := testutil.GatherAndLint(p.metrics)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	readme, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := named("`(relay_[a-z_]+)`", string(readme))
	exported := named(`fqName: "(relay_[a-z_]+)"`, describe(p.metrics))
	if !slices.Equal(exported, documented) {
		t.Errorf("exported are\n%v\ndeploy/README.md tells of\n%v", exported, documented)
	}
}

// startInProcess starts relay serve in the test's own process, where what it
// registers can be looked at.
func startInProcess(t *testing.T) *process {
	t.Helper()
	env := environment{
		"RELAY_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "relay.db"), "RELAY_LISTEN": "127.0.0.1:0",
	}
	getenv := func(name string) string { return env[name] }
	all := roles{api: true, worker: true}
	cfg, err := load(newServe(getenv), getenv, all.settings())
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(t.Context(), cfg, all, slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return p
}

// describe is what all metrics say of themselves, those without a series too.
func describe(r *prometheus.Registry) string {
	var all strings.Builder
	descs := make(chan *prometheus.Desc)
	go func() { r.Describe(descs); close(descs) }()
	for d := range descs {
		fmt.Fprintln(&all, d)
	}
	return all.String()
}

// named are the names that the pattern's group finds, sorted, each once.
func named(pattern, text string) (names []string) {
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		names = append(names, match[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}
