package api

import (
	"strconv"
	"strings"
	"testing"
)

func TestPointersAreEscaped(t *testing.T) {
	t.Parallel()
	if got := at("a/b", "m~n", "3", ""); got != "/a~1b/m~0n/3/" {
		t.Errorf("pointer %s", got)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	var f faults
	for i := range 2 * maxFaults {
		f.addf(at(strconv.Itoa(i)), "is wrong")
		f.addf(at(strconv.Itoa(i)), "is wrong in another way")
	}
	if err := f.err(); err == nil || !f.more || len(f.list) != maxFaults {
		t.Errorf("%v with %d listed", err, len(f.list))
	}
}

func TestNamesAreCut(t *testing.T) {
	t.Parallel()
	short, long := strings.Repeat("n", maxName), strings.Repeat("\x80", 2*maxName)
	for _, test := range []struct{ name, want string }{
		{"", ""},
		{short, short},
		{short + "n", short + "…"},
		{short[1:] + "é", short[1:] + "…"},
		{long, "…"}, // of a query; a body is UTF-8
	} {
		if got := shorten(test.name); got != test.want {
			t.Errorf("%q is cut to %q", test.name, got)
		}
	}
}
