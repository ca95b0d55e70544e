package main

import (
	"cmp"
	"os"
	"strings"
	"testing"

	"oprelay/jobs/source"
)

// The README's table has every built-in source, and no other.
func TestSourcesOfTheReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	set, err := source.Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| source | operation | its parameters |\n|---|---|---|\n")
	for _, s := range set.Sources() {
		var names []string
		for _, param := range s.Params {
			names = append(names, "`"+param.Name+"`")
		}
		table.WriteString("| `" + s.Name + "` | " + s.Upstream.Title + ": " + s.Title + " | " + cmp.Or(strings.Join(names, ", "), "none") + " |\n")
	}
	if !strings.Contains(string(text), table.String()+"\n") {
		t.Errorf("the README's table should be\n%s", table.String())
	}
}
