package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action  string `json:"Action"`
	Package string `json:"Package"`
	Test    string `json:"Test"` // "" for the package itself
	Output  string `json:"Output"`
}

// test names a test in a run.
type test struct{ pkg, name string }

// report turns events into what a person reads.
type report struct {
	out     io.Writer
	printed map[test]*strings.Builder // by the tests that have not ended
	skipped []test
}

func newReport(out io.Writer) *report {
	return &report{out: out, printed: map[test]*strings.Builder{}}
}

// add takes one line of `go test -json`. What is no event is printed as it is.
func (r *report) add(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		fmt.Fprintf(r.out, "%s\n", line)
		return
	}
	if e.Test == "" {
		r.addPackage(e)
		return
	}
	t := test{e.Package, e.Test}
	switch e.Action {
	case "output":
		if r.printed[t] == nil {
			r.printed[t] = &strings.Builder{}
		}
		r.printed[t].WriteString(e.Output)
	case "fail":
		r.print(t)
	case "skip":
		r.skipped = append(r.skipped, t)
		delete(r.printed, t)
	case "pass":
		delete(r.printed, t)
	}
}

// addPackage takes an event of a package: its build, its closing line, its end.
func (r *report) addPackage(e event) {
	switch e.Action {
	case "output", "build-output":
		if e.Output != "PASS\n" {
			fmt.Fprint(r.out, e.Output)
		}
	case "fail": // a panic or the time limit leaves tests without an end
		for t := range r.printed {
			if t.pkg == e.Package {
				r.print(t)
			}
		}
	}
}

func (r *report) print(t test) {
	if printed := r.printed[t]; printed != nil {
		fmt.Fprint(r.out, printed.String())
	}
	delete(r.printed, t)
}

// close names the skipped tests and returns the exit code of a run that passed
// otherwise.
func (r *report) close(strict bool) int {
	for _, t := range r.skipped {
		fmt.Fprintf(r.out, "skipped: %s %s\n", t.pkg, t.name)
	}
	if strict && len(r.skipped) > 0 {
		fmt.Fprintf(r.out, "FAIL: %d skipped, and CI=true allows none\n", len(r.skipped))
		return 1
	}
	return 0
}
