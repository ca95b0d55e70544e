package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
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

// A small burst goes through every part: the servers, the limit, the relay's own
// processes, the stand-ins, the table and the results.
func TestSmallBurst(t *testing.T) {
	t.Parallel()
	testenv.Redis(t)
	testenv.Postgres(t) // say that they are missing
	folder := t.TempDir()
	program := filepath.Join(folder, "relay")
	if err := testenv.Build(program, "oprelay/cmd/relay"); err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	err := run(t.Context(), []string{
		"-only", "burst", "-runs", "1", "-operations", "60", "-relay", program, "-folder", folder,
	}, &table, testenv.NewOutput())
	if err != nil {
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
		if m.Row != "burst" || len(m.Values) != 1 {
			t.Errorf("measured %+v, want one value of the row burst", m)
		}
		if m.Value() <= 0 && m.Name != "Redis commands each" && !strings.HasPrefix(m.Name, "CPU") { // these are too few to count
			t.Errorf("%s is %v", m.Name, m.Value())
		}
		if !strings.Contains(table.String(), m.Name) {
			t.Errorf("the table has no %s:\n%s", m.Name, table.String())
		}
	}
	if len(got.Measures) < 10 {
		t.Errorf("%d measures", len(got.Measures))
	}
}

// Value is the only one.
func (m *measure) Value() float64 { return m.Values[0] }

func TestTable(t *testing.T) {
	t.Parallel()
	var all measures
	for _, rate := range []float64{3000, 1000, 2500} {
		all = all.with("burst", []sample{
			{Name: "rate", Unit: "/s", Value: rate, Target: atLeast(2000)},
			{Name: "delay", Unit: "ms", Value: rate / 1000, Target: atMost(2)},
			{Name: "memory", Unit: "MiB", Value: 12.345},
		})
	}
	var got strings.Builder
	if err := all.print(&got); err != nil {
		t.Fatal(err)
	}
	want := `row    what    unit  runs  min   median  max   target   
burst  rate    /s    3     1000  2500    3000  >= 2000  ok
       delay   ms    3     1     2.50    3     <= 2     MISSED
       memory  MiB   3     12.3  12.3    12.3           
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
	if o, err := parse([]string{"-only", "burst,polls", "-folder", "x"}, io.Discard); err != nil || len(o.only) != 2 || o.json != "x/results.json" {
		t.Errorf("parsed %+v, %v", o, err)
	}
	for _, wrong := range []string{"-only=nothing", "-runs=0", "-operations=-1", "burst", "-what"} {
		if _, err := parse([]string{wrong}, io.Discard); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}
