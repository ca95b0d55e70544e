package jobs

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What hangs takes all the room that there is, and nobody is left with less than a
// few requests at a time.
func TestThrong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := &throng{most: 20}
		hanging := &pile{due: numbers(100), limit: 100, takes: time.Hour}
		other := &pile{due: numbers(100), limit: 100, takes: time.Second}
		runs := make(chan error, 2)
		run := func(p *pile) {
			d := p.drain()
			d.throng = all
			_, err := d.run(t.Context(), t.Context(), nil, leased())
			runs <- err
		}
		go run(hanging)
		synctest.Wait()
		if n := hanging.inFlight(); n != 20 {
			t.Errorf("%d are under way alone, want 20", n)
		}
		go run(other)
		if err := <-runs; err != nil || !slices.Equal(other.done(), numbers(100)) || other.max != throngFew {
			t.Errorf("beside it %d were done, %d at a time, %v; want 100, %d", len(other.done()), other.max, err, throngFew)
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
func TestThrongIsExact(t *testing.T) {
	t.Parallel()
	all := &throng{most: 3}
	for range 3 {
		if !all.enter(throngFew) {
			t.Fatal("not let in")
		}
	}
	if all.enter(throngFew) || all.room(throngFew) != 0 {
		t.Error("one more was let in who has a few already")
	}
	if !all.enter(throngFew-1) || all.room(0) != throngFew {
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
	if all.room(throngFew) != 1 || !all.enter(throngFew) {
		t.Error("what was left is not free again")
	}
}
