package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"oprelay/cmd/bench/chart"
)

// target is what a measure is to reach.
type target struct {
	Bound  float64 `json:"bound"`
	AtMost bool    `json:"at_most"` // else at least
}

func atLeast(bound float64) *target { return &target{Bound: bound} }
func atMost(bound float64) *target  { return &target{Bound: bound, AtMost: true} }

func (t *target) met(value float64) bool {
	if t.AtMost {
		return value <= t.Bound
	}
	return value >= t.Bound
}

// sample is one number that a row has measured in one round.
type sample struct {
	Name   string
	Unit   string
	Value  float64
	Target *target // nil for what is only told
	Note   string  // said beside the number
}

// measure is a row's number over all rounds.
type measure struct {
	Row    string    `json:"row"`
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	Min    float64   `json:"min"`
	Median float64   `json:"median"`
	Max    float64   `json:"max"`
	Target *target   `json:"target,omitempty"`
	Note   string    `json:"note,omitempty"` // of the last round
	// Met says whether the median reaches the target; nil without one.
	Met *bool `json:"met,omitempty"`
}

// measures are in the order in which they were measured first, of each row those
// with a target before the others.
type measures []*measure

// with is the measures and what a row has measured in one round.
func (all measures) with(row string, samples []sample) measures {
	slices.SortStableFunc(samples, func(a, b sample) int { return cmp.Compare(rank(a), rank(b)) })
	for _, s := range samples {
		i := slices.IndexFunc(all, func(m *measure) bool { return m.Row == row && m.Name == s.Name })
		if i < 0 {
			i = len(all)
			all = append(all, &measure{Row: row, Name: s.Name, Unit: s.Unit, Target: s.Target})
		}
		all[i].take(s.Value)
		all[i].Note = s.Note
	}
	return all
}

// rank is 0 with a target, 1 without.
func rank(s sample) int {
	if s.Target != nil {
		return 0
	}
	return 1
}

func (m *measure) take(value float64) {
	m.Values = append(m.Values, value)
	inOrder := slices.SortedFunc(slices.Values(m.Values), cmp.Compare[float64])
	m.Min, m.Max = inOrder[0], inOrder[len(inOrder)-1]
	m.Median = (inOrder[(len(inOrder)-1)/2] + inOrder[len(inOrder)/2]) / 2
	if m.Target != nil {
		m.Met = new(m.Target.met(m.Median))
	}
}

// ratio is a of b, 0 if b was not measured.
func ratio(a, b float64) float64 {
	if b == 0 || math.IsNaN(b) {
		return 0
	}
	return a / b
}

// outcome is what became of a row.
type outcome struct {
	Row    string   `json:"row"`
	Asked  int      `json:"asked"`            // runs that it was to have
	Runs   int      `json:"runs"`             // that gave numbers
	Failed []string `json:"failed,omitempty"` // why others did not
}

// record is all that was measured, and what became of each row.
type record struct {
	measures measures
	outcomes []*outcome
}

// of is the row's outcome.
func (rec *record) of(row string) *outcome {
	i := slices.IndexFunc(rec.outcomes, func(o *outcome) bool { return o.Row == row })
	if i < 0 {
		i = len(rec.outcomes)
		rec.outcomes = append(rec.outcomes, &outcome{Row: row})
	}
	return rec.outcomes[i]
}

// report prints the table and writes it for machines.
func (b *bench) report(ctx context.Context, stdout io.Writer, rec *record) error {
	if len(rec.outcomes) == 0 {
		return nil
	}
	if err := rec.print(stdout); err != nil {
		return err
	}
	return b.write(ctx, rec)
}

// print is the table for people. The verdict is the median's. A row that failed, or
// for which there was no time, says so below what it has measured.
func (rec *record) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "row\twhat\tunit\truns\tmin\tmedian\tmax\ttarget\t")
	for _, o := range rec.outcomes {
		name := o.Row
		line := func(format string, cells ...any) {
			fmt.Fprintf(table, "%s\t"+format+"\n", append([]any{name}, cells...)...)
			name = ""
		}
		for _, m := range rec.measures {
			if m.Row == o.Row {
				line("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", m.Name, m.Unit, o.runs(len(m.Values)),
					number(m.Min), number(m.Median), number(m.Max), m.Target, m.verdict())
			}
		}
		for _, reason := range o.Failed {
			line("FAILED\t\t\t\t\t\t\t%.300s", strings.ReplaceAll(reason, "\n", "; "))
		}
		if o.Runs+len(o.Failed) == 0 {
			line("SKIPPED\t\t%s\t\t\t\t\tno time was left", o.runs(0))
		}
	}
	return table.Flush()
}

// runs is how many there were, and of how many if some are missing.
func (o *outcome) runs(n int) string {
	if n == o.Asked {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d/%d", n, o.Asked)
}

func (m *measure) verdict() string {
	switch {
	case m.Met == nil:
		return m.Note
	case *m.Met:
		return "ok"
	}
	return "MISSED"
}

// String is the target for people, "" for none.
func (t *target) String() string {
	switch {
	case t == nil:
		return ""
	case t.AtMost:
		return "<= " + number(t.Bound)
	}
	return ">= " + number(t.Bound)
}

// number is with three digits that say something.
func number(v float64) string {
	size := math.Abs(v)
	switch {
	case size >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// write writes the table for machines, and the charts if there is what they show.
func (b *bench) write(ctx context.Context, rec *record) error {
	on, err := b.surroundings(ctx)
	if err != nil {
		return err
	}
	encoded, err := json.MarshalIndent(results{
		At: time.Now().UTC().Truncate(time.Second), On: on, Operations: b.operations,
		Rows: rec.outcomes, Measures: rec.measures, Points: b.points,
	}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(b.folder, "results.json")
	if err := os.WriteFile(path, append(encoded, '\n'), 0o600); err != nil {
		return err
	}
	b.sayf("written to %s", path)
	if len(b.points) == 0 {
		return nil
	}
	drawn, err := chart.SVG(b.points)
	if err != nil {
		return err
	}
	path = filepath.Join(b.folder, "watches.svg")
	b.sayf("drawn in %s", path)
	return os.WriteFile(path, drawn, 0o600)
}

// results are what is written for machines.
type results struct {
	At         time.Time     `json:"at"`
	On         surroundings  `json:"on"`
	Operations int           `json:"operations"` // of a burst
	Rows       []*outcome    `json:"rows"`
	Measures   measures      `json:"measures"`
	Points     []chart.Point `json:"points,omitempty"`
}
