package main

import (
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"testing"
	"time"
)

var errBroken = errors.New("broken")

// A row that fails, or for which no time is left, is told of like the others, and
// those that there is too little time for are not begun again.
func TestMeasure(t *testing.T) {
	t.Parallel()
	one := func(context.Context, *bench) ([]sample, error) { return []sample{{Name: "n", Value: 1}}, nil }
	all := []row{
		{name: "good", limit: time.Minute, run: one},
		{name: "bad", limit: time.Minute, run: func(context.Context, *bench) ([]sample, error) { return nil, errBroken }},
		{name: "once", limit: time.Minute, once: true, run: one},
		{name: "unasked", limit: time.Minute, run: one},
	}
	for _, c := range []struct {
		within time.Duration
		want   []outcome
	}{
		{time.Hour, []outcome{
			{Row: "good", Asked: 2, Runs: 2}, {Row: "bad", Asked: 2, Failed: []string{"broken", "broken"}}, {Row: "once", Asked: 1, Runs: 1},
		}},
		{0, []outcome{{Row: "good", Asked: 2}, {Row: "bad", Asked: 2}, {Row: "once", Asked: 1}}},
	} {
		b := bench{options: options{only: []string{"good", "bad", "once"}, runs: 2, within: c.within}, stderr: io.Discard, begun: time.Now()}
		rec, err := b.measure(t.Context(), all)
		if failed := errors.Is(err, errBroken); failed != (c.within > 0) {
			t.Errorf("within %s: %v", c.within, err)
		}
		var got []outcome
		for _, o := range rec.outcomes {
			got = append(got, *o)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("within %s came to %+v, want %+v", c.within, got, c.want)
		}
	}
}

// A row has no more time than is left, unless it is the only one.
func TestMeasureBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		only []string
		want time.Duration
	}{
		{[]string{"long", "other"}, time.Minute + overtime},
		{[]string{"long"}, time.Hour},
	} {
		var left time.Duration
		long := row{name: "long", limit: time.Hour, run: func(ctx context.Context, _ *bench) ([]sample, error) {
			end, _ := ctx.Deadline()
			left = time.Until(end)
			return nil, nil
		}}
		b := bench{options: options{only: c.only, runs: 1, within: time.Minute}, stderr: io.Discard, begun: time.Now()}
		if _, err := b.measure(t.Context(), []row{long}); err != nil {
			t.Fatal(err)
		}
		if left > c.want || left < c.want/2 {
			t.Errorf("-only %v left %s, want %s", c.only, left, c.want)
		}
	}
}

// A limit that could not be measured is none for the rows after it.
func TestOnceARound(t *testing.T) {
	t.Parallel()
	b := bench{stderr: io.Discard, round: map[string]float64{}}
	asked := 0
	for i, want := range []error{errBroken, nil, nil} {
		rate, err := b.onceARound("limit", func() (float64, error) { asked++; return 7, []error{errBroken, nil}[i] })
		if !errors.Is(err, want) || (rate == 7) != (want == nil) {
			t.Errorf("asked again it is %v, %v", rate, err)
		}
	}
	if asked != 2 {
		t.Errorf("it was measured %d times, want 2", asked)
	}
}

// What a child has used is counted once, though it ends while its parent is read.
func TestFamilyCPU(t *testing.T) {
	t.Parallel()
	const parent, child = 1, 2
	ended := false
	timesOf := func(pid int) (times, error) {
		switch {
		case pid == parent && ended:
			return times{own: 5, reaped: 3}, nil
		case pid == parent:
			return times{own: 5}, nil
		case ended:
			return times{}, os.ErrNotExist
		}
		ended = true // and its parent has waited for it
		return times{own: 3}, nil
	}
	used, err := familyCPU(parent, timesOf, func(int) ([]int, error) { return []int{child}, nil })
	if err != nil || used != 8 {
		t.Errorf("used %d, %v; want 8", used, err)
	}
	timesOf = func(pid int) (times, error) { return times{own: time.Duration(pid)}, nil }
	if used, err = familyCPU(parent, timesOf, func(int) ([]int, error) { return []int{child}, nil }); err != nil || used != 3 {
		t.Errorf("used %d, %v; want 3", used, err)
	}
}

// The longest time without growth counts to where one looked last.
func TestLull(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	var l lull
	for _, c := range []struct {
		n        int64
		at, want time.Duration
	}{{5, 0, 0}, {6, 1, 1}, {6, 3, 2}, {7, 4, 3}, {8, 5, 3}, {8, 9, 4}} {
		if l.look(c.n, begun.Add(c.at)); l.longest != c.want {
			t.Errorf("at %d it is %d, want %d", c.at, l.longest, c.want)
		}
	}
}
