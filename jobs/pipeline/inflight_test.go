package pipeline

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What hangs takes all the room that there is, and nobody is left with less than a
// few requests at a time.
func TestInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := &InFlight{Max: 20}
		hanging := &pile{due: numbers(100), limit: 100, takes: time.Hour}
		other := &pile{due: numbers(100), limit: 100, takes: time.Second}
		runs := make(chan error, 2)
		run := func(p *pile) {
			d := p.pipeline()
			d.InFlight = all
			_, err := d.Run(t.Context(), t.Context(), Lease{})
			runs <- err
		}
		go run(hanging)
		synctest.Wait()
		if n := hanging.inFlight(); n != 20 {
			t.Errorf("%d are under way alone, want 20", n)
		}
		go run(other)
		if err := <-runs; err != nil || !slices.Equal(other.done(), numbers(100)) || other.max != few {
			t.Errorf("beside it %d were done, %d at a time, %v; want 100, %d", len(other.done()), other.max, err, few)
		}
		if err := <-runs; err != nil || !slices.Equal(hanging.done(), numbers(100)) || hanging.max != 20 {
			t.Errorf("%d were done, %d at a time, %v; want 100, 20", len(hanging.done()), hanging.max, err)
		}
		if n := all.n.Load(); n != 0 {
			t.Errorf("%d are still counted", n)
		}
	})
}

// Many who look at the same time do not all find the same room.
func TestInFlightIsExact(t *testing.T) {
	t.Parallel()
	all := &InFlight{Max: 3}
	for range 3 {
		if !all.enter(few) {
			t.Fatal("not let in")
		}
	}
	if all.enter(few) || all.room(few) != 0 {
		t.Error("one more was let in who has a few already")
	}
	if !all.enter(few-1) || all.room(0) != few {
		t.Error("who has less than a few was not let in")
	}
	for range 3 {
		all.enter(0)
	}
	if all.enter(1) || all.room(1) != 0 || !all.enter(0) {
		t.Error("of so many, none is to have more than one")
	}
	for range 6 {
		all.leave()
	}
	if all.room(few) != 1 || !all.enter(few) {
		t.Error("what was left is not free again")
	}
}
