package jobs

import (
	"errors"
	"testing"
	"time"

	"oprelay/storage"
)

// A fault of one part is complained about now and then, and stops nothing; only an
// outage does, until a write works again.
func TestFaultIsNoOutage(t *testing.T) {
	t.Parallel()
	r := newRelay(t, sqliteBackend())
	log, written := newLog()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	d := &dispatcher{store: r.store, now: clock, log: log, away: &outage{log: log, what: "the database", now: clock}}
	fault := errors.New("a row that cannot be read")
	if storage.Unavailable(fault) {
		t.Fatal("the fault counts as an outage")
	}
	for range 3 {
		d.heed(t.Context(), fault)
		if !d.away.over(afterOutage) {
			t.Fatal("a fault stops the work")
		}
	}
	if n := len(written.holding("failed in part")); n != 1 {
		t.Errorf("complained %d times within a minute", n)
	}
	d.away.failed(errors.New("gone"))
	if d.away.over(0) {
		t.Error("an outage does not stop the work")
	}
	d.heed(t.Context(), nil)
	if !d.away.over(0) || d.away.over(afterOutage) {
		t.Error("work goes on at once after an outage, or not at all")
	}
	now = now.Add(afterOutage)
	if !d.away.over(afterOutage) {
		t.Error("work does not go on after an outage")
	}
}
