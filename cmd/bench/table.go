package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"text/tabwriter"
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
	if err := all.write(b.json); err != nil {
		return err
	}
	b.say("written to %s", b.json)
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
	fmt.Fprintln(table, "row\twhat\tunit\tmin\tmedian\tmax\ttarget\t")
	row := ""
	for _, m := range all {
		name := m.Row
		if name == row {
			name = ""
		}
		row = m.Row
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, m.Name, m.Unit,
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

// write is the table for machines.
func (all measures) write(path string) error {
	encoded, err := json.MarshalIndent(map[string]any{"measures": all}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(encoded, '\n'), 0o600)
}
