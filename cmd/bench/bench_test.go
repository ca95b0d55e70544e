package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"oprelay/deploy/testenv"
)

// TestMain lets the test's own program be what the bench starts again: its hidden
// commands, in processes of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "stand-in" || os.Args[1] == "limit") {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
			panic(err)
		}
		return
	}
	m.Run()
}

// A few small rows go through every part: the servers, the limit, the relay's own
// processes, the stand-ins, the table and the results.
func TestSmallRows(t *testing.T) {
	t.Parallel()
	got := runSmall(t, "-only", "burst,latency,registration", "-operations", "60")
	measured := map[string]bool{}
	for _, m := range got.Measures {
		measured[m.Name] = true
		mayBeNone := strings.Contains(m.Name, " each") || strings.Contains(m.Name, "CPU") || // too few to count
			strings.Contains(m.Name, "first poll") // it can come before the answer
		if m.Value() <= 0 && !mayBeNone || m.Unit == "ms" && math.Abs(m.Value()) > millis(time.Minute) {
			t.Errorf("%s is %v", m.Name, m.Value())
		}
	}
	for _, name := range []string{"registration answered to first poll, p99", "single with a key, at 16 connections"} {
		if !measured[name] {
			t.Errorf("%s was not measured", name)
		}
	}
	if len(got.Measures) < 10 || got.Measures[0].Target == nil {
		t.Errorf("%d measures, the first without a target", len(got.Measures))
	}
	if len(got.Rows) != 3 || got.Rows[2].Runs != 1 {
		t.Errorf("rows %+v, want three with one run", got.Rows)
	}
	if on := got.On; on.CPU == "" || on.PostgreSQL == "" || on.Redis == "" || !strings.Contains(on.Relay, on.Go) {
		t.Errorf("measured on %+v", on)
	}
}

// At two sizes the schedule is kept and outlasts FLUSHALL and a restart.
func TestSmallMillion(t *testing.T) {
	t.Parallel()
	got := runSmall(t, "-only", "million", "-operations", "2000", "-watches", "2000")
	measured := map[string]float64{}
	for _, m := range got.Measures {
		measured[m.Name] = m.Values[0]
	}
	for _, name := range []string{
		"at 1000: polls on schedule", "at 2000: polls on schedule", "at the most: page of events, by cursor, p99",
		"longest pause of polls after FLUSHALL", "kill of API and worker to polls again", "at 2000: peak memory: worker",
		"on schedule, each poll, PostgreSQL commits each",
	} {
		if measured[name] <= 0 {
			t.Errorf("%s: %v", name, measured[name])
		}
	}
	if len(got.Points) != 2 {
		t.Errorf("%d points", len(got.Points))
	}
}

// A past is made on both databases in which everything is found as before, and then it
// is deleted.
func TestSmallHistory(t *testing.T) {
	t.Parallel()
	got := runSmall(t, "-only", "history,history-embedded", "-operations", "100", "-ended", "6000")
	measured := map[string]float64{}
	for _, m := range got.Measures {
		measured[m.Row+": "+m.Name] = m.Values[0]
	}
	for name, want := range map[string]float64{
		"history: ended watches": 6000, "history-embedded: ended watches": 2000,
		"history: disk for each ended watch with a delivery": 0, "history-embedded: disk for each ended watch with a delivery": 0,
		"history: page of console, watches, p99: with it": 0, "history-embedded: page of events, by cursor, p99: with it": 0,
		"history: ended watches deleted": 0, "history-embedded: ended watches deleted": 0,
	} {
		if measured[name] <= 0 || want > 0 && measured[name] != want {
			t.Errorf("%s: %v", name, measured[name])
		}
	}
}

// runSmall runs the bench once and returns its results, all of which the table has.
func runSmall(t *testing.T, args ...string) results {
	t.Helper()
	testenv.Redis(t)
	testenv.Postgres(t) // say that they are missing
	folder := t.TempDir()
	program := filepath.Join(folder, "relay")
	if err := testenv.Build(program, "oprelay/cmd/relay"); err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	args = append(args, "-runs", "1", "-relay", program, "-folder", folder)
	if err := run(t.Context(), args, &table, testenv.NewOutput()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(folder, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got results
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	for _, m := range got.Measures {
		if !strings.Contains(table.String(), m.Name) {
			t.Errorf("the table has no %s:\n%s", m.Name, table.String())
		}
	}
	return got
}

// Value is the only one.
func (m *measure) Value() float64 { return m.Values[0] }

func TestTable(t *testing.T) {
	t.Parallel()
	rec := record{outcomes: []*outcome{
		{Row: "burst", Asked: 3, Runs: 3},
		{Row: "polls", Asked: 3, Runs: 1, Failed: []string{"one was lost\nand one doubled"}},
		{Row: "idle", Asked: 1},
	}}
	for _, rate := range []float64{3000, 1000, 2500} {
		rec.measures = rec.measures.with("burst", []sample{
			{Name: "memory", Unit: "MiB", Value: 12.345, Note: "much"},
			{Name: "rate", Unit: "/s", Value: rate, Target: atLeast(2000)},
			{Name: "delay", Unit: "ms", Value: rate / 1000, Target: atMost(2)},
		})
	}
	rec.measures = rec.measures.with("polls", []sample{{Name: "rate", Unit: "/s", Value: 5}})
	var got strings.Builder
	if err := rec.print(&got); err != nil {
		t.Fatal(err)
	}
	want := `row    what     unit  runs  min   median  max   target   
burst  rate     /s    3     1000  2500    3000  >= 2000  ok
       delay    ms    3     1     2.50    3     <= 2     MISSED
       memory   MiB   3     12.3  12.3    12.3           much
polls  rate     /s    1/3   5     5       5              
       FAILED                                            one was lost; and one doubled
idle   SKIPPED        0/1                                no time was left
`
	if got.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", got.String(), want)
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, c := range []struct {
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{hundred, 0, 1},
		{hundred[:1], 99, 1},
		{hundred[:2], 50, 1},
		{hundred[:3], 50, 2},
		{nil, 50, 0},
	} {
		if got := percentile(c.sorted, c.p); got != c.want {
			t.Errorf("percentile %v of %d is %d, want %d", c.p, len(c.sorted), got, c.want)
		}
	}
}

func TestOperation(t *testing.T) {
	t.Parallel()
	o := until(time.Unix(1_700_000_000, 5), 1<<40)
	if got, err := parseOperation(o.String()); err != nil || got != o {
		t.Errorf("%s is %+v, %v; want %+v", o, got, err, o)
	}
	for _, wrong := range []string{"", "x", strings.Repeat("z", 32), o.String() + "0"} {
		if got, err := parseOperation(wrong); err == nil {
			t.Errorf("%q is %+v", wrong, got)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if o, err := parse([]string{"-only", "burst,polls", "-folder", "x"}, io.Discard); err != nil || len(o.only) != 2 || o.folder != "x" {
		t.Errorf("parsed %+v, %v", o, err)
	}
	for _, wrong := range []string{"-only=nothing", "-runs=0", "-operations=-1", "burst", "-what"} {
		if _, err := parse([]string{wrong}, io.Discard); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}
