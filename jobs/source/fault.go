package source

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is what is wrong with a definition, and what to write instead.
type Fault struct { //nolint:errname // of a definition; one of Faults
	File string
	Line int // 0 if it is not about a line
	Text string
}

// Error implements error.
func (f Fault) Error() string {
	if f.Line == 0 {
		return f.File + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// Faults are all that was found, by file and line.
type Faults []Fault //nolint:errname // as it is

// Error has a line for each.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// err is nil without faults.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
	return slices.Compact(f) // those of an upstream's rules are found with each source
}
