package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"text/tabwriter"
	"time"

	"oprelay/cmd/bench/chart"
)

// errMissed says that a target was missed, where that counts as a failure.
var errMissed = errors.New("a target was missed")

// report prints the table and writes it for machines.
func (b *bench) report(stdout io.Writer, all measures) error {
	if len(all) == 0 {
		return nil
	}
	if err := all.print(stdout); err != nil {
		return err
	}
	if err := b.write(all); err != nil {
		return err
	}
	for _, m := range all {
		if b.strict && m.Met != nil && !*m.Met {
			return errMissed
		}
	}
	return nil
}

// print is the table for people. The verdict is the median's.
func (all measures) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "row\twhat\tunit\truns\tmin\tmedian\tmax\ttarget\t")
	row := ""
	for _, m := range all {
		name := m.Row
		if name == row {
			name = ""
		}
		row = m.Row
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", name, m.Name, m.Unit, len(m.Values),
			number(m.Min), number(m.Median), number(m.Max), m.Target, m.verdict())
	}
	return table.Flush()
}

func (m *measure) verdict() string {
	switch {
	case m.Met == nil:
		return ""
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
func (b *bench) write(all measures) error {
	encoded, err := json.MarshalIndent(results{
		At: time.Now().UTC().Truncate(time.Second), Processors: runtime.NumCPU(), Operations: b.operations,
		Measures: all, Points: b.points,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.json, append(encoded, '\n'), 0o600); err != nil {
		return err
	}
	b.sayf("written to %s", b.json)
	if len(b.points) == 0 {
		return nil
	}
	drawn, err := chart.SVG(b.points)
	if err != nil {
		return err
	}
	path := filepath.Join(b.folder, "watches.svg")
	b.sayf("drawn in %s", path)
	return os.WriteFile(path, drawn, 0o600)
}

// results are what is written for machines.
type results struct {
	At         time.Time     `json:"at"`
	Processors int           `json:"processors"`
	Operations int           `json:"operations"` // of a burst
	Measures   measures      `json:"measures"`
	Points     []chart.Point `json:"points,omitempty"`
}
