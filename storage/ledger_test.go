package storage

import (
	"testing"
	"time"
)

// TestLedgerNeverExceedsBudget takes greedily, second by second, and looks at
// every window of the period and a tenth.
func TestLedgerNeverExceedsBudget(t *testing.T) {
	t.Parallel()
	budget := Budget{N: 120, Per: 5 * time.Minute}
	start := time.Date(2026, 11, 23, 10, 0, 7, 0, time.UTC)
	var l ledger
	grants := make([]int, 3600)
	for second := range grants {
		now := start.Add(time.Duration(second) * time.Second)
		n, next := l.at(now, budget).allowance()
		if n == 0 && !next.After(now) {
			t.Fatalf("second %d: nothing is allowed, and the next at %v", second, next)
		}
		grants[second] = min(n, 1+second%7)
		l.at(now, budget).charge(grants[second], 0)
	}
	total := 0
	for from := range grants {
		total += grants[from]
		sum := 0
		for _, n := range grants[from:min(from+330, len(grants))] {
			sum += n
		}
		if sum > budget.N {
			t.Fatalf("%d requests in the 330 s from second %d", sum, from)
		}
	}
	if total < 1100 {
		t.Errorf("only %d requests in an hour: the budget is wasted", total)
	}
	if len(l.slots) > slotsCounted {
		t.Errorf("%d slots are kept", len(l.slots))
	}
}

func TestLedgerSurvivesClockSetBack(t *testing.T) {
	t.Parallel()
	budget := Budget{N: 10, Per: 5 * time.Minute}
	start := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, back := range []time.Duration{time.Second, time.Minute, 4 * time.Minute, 6 * time.Minute, 48 * time.Hour} {
		var l ledger
		l.at(start, budget).charge(10, 0)
		set := start.Add(-back)
		if n, _ := l.at(set, budget).allowance(); n != 0 {
			t.Errorf("set back by %v: %d more are allowed at once", back, n)
		}
		// It must not be stuck either: at most until the window has passed twice.
		if n, _ := l.at(set.Add(2*budget.Per+budget.Per/2), budget).allowance(); n != 10 {
			t.Errorf("set back by %v: %d are allowed when the window is over", back, n)
		}
	}
}

func TestSlotsAreKept(t *testing.T) {
	t.Parallel()
	l := ledger{slots: []slot{{30, 1, 0}, {60, 2, 1}}}
	got, err := parseSlots(l.text())
	if err != nil || len(got) != 2 || got[1] != l.slots[1] {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"x", "1", "1:x", "1:2,", "1:2:x"} {
		if _, err := parseSlots(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
