package jobs

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"oprelay/storage"
)

func group(id string) storage.Group { return storage.Group{Kind: storage.DeliverGroup, ID: id} }

func slots(n int) map[storage.GroupKind]int {
	return map[storage.GroupKind]int{storage.DeliverGroup: n, storage.PollGroup: n}
}

// foreman is the work of a crew in tests: it says when a shift begins and lets it
// go on when told.
type foreman struct {
	begun chan storage.Group
	goOn  chan struct{}
}

func newForeman() *foreman {
	return &foreman{begun: make(chan storage.Group, 100), goOn: make(chan struct{})}
}

func (f *foreman) work(context.Context, storage.Group, <-chan struct{}) {
	// The group does not matter to who only counts.
	f.begun <- storage.Group{}
	<-f.goOn
}

func TestCrewOneShiftPerGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newForeman()
		c := newCrew(slots(10), f.work)
		for range 5 {
			if !c.wake(group("a")) || !c.wake(group("b")) {
				t.Fatal("not woken")
			}
		}
		synctest.Wait()
		if len(f.begun) != 2 {
			t.Errorf("%d shifts for 2 groups", len(f.begun))
		}
		// The wake-ups during the shifts were heard: each is worked through once more.
		f.goOn <- struct{}{}
		f.goOn <- struct{}{}
		synctest.Wait()
		if len(f.begun) != 4 {
			t.Errorf("%d shifts after both were woken again, want 4", len(f.begun))
		}
		close(f.goOn)
		if err := c.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if len(f.begun) != 4 {
			t.Errorf("%d shifts in the end, want 4", len(f.begun))
		}
	})
}

// A shift that hears of the wake-up itself need not be followed by another.
func TestCrewWakesTheShiftAtWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shifts, heard := 0, 0
		c := newCrew(slots(1), func(ctx context.Context, _ storage.Group, woken <-chan struct{}) {
			shifts++
			for {
				select {
				case <-woken:
					heard++
				case <-ctx.Done():
					return
				}
			}
		})
		for range 3 {
			c.wake(group("a"))
			synctest.Wait()
		}
		if err := c.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if shifts != 1 || heard != 2 {
			t.Errorf("%d shifts that heard %d wake-ups, want 1 and 2", shifts, heard)
		}
	})
}

func TestCrewSlotsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newForeman()
		c := newCrew(slots(3), f.work)
		woken := 0
		for i := range 10 {
			if c.wake(group(strconv.Itoa(i))) {
				woken++
			}
		}
		if woken != 3 {
			t.Errorf("%d groups at a time, want 3", woken)
		}
		f.goOn <- struct{}{}
		synctest.Wait()
		if !c.wake(group("9")) {
			t.Error("a slot was not given back")
		}
		if !c.wake(storage.Group{Kind: storage.PollGroup, ID: "0"}) {
			t.Error("deliveries starve polls")
		}
		close(f.goOn)
		if err := c.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCrewStopWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		told := false
		c := newCrew(slots(1), func(ctx context.Context, _ storage.Group, _ <-chan struct{}) {
			<-ctx.Done() // no new work
			told = true
			wait(context.Background(), time.Minute) // what is in flight
		})
		c.wake(group("a"))
		began := time.Now()
		if err := c.stop(t.Context()); err != nil || !told {
			t.Errorf("%v; the shift was told: %v", err, told)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it waited for %v", took)
		}
		if c.wake(group("b")) {
			t.Error("a crew that stopped took work")
		}
	})
}

func TestCrewStopGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(slots(1), func(context.Context, storage.Group, <-chan struct{}) { wait(context.Background(), time.Hour) })
		c.wake(group("a"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := c.stop(t.Context()); err != nil {
			t.Errorf("the second time, with patience: %v", err)
		}
	})
}

func TestCrewRunWaitsForTheShift(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(slots(1), func(context.Context, storage.Group, <-chan struct{}) { wait(context.Background(), time.Minute) })
		began := time.Now()
		c.run(t.Context(), group("a"))
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it waited for %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.run(ctx, group("a"))
		if took := time.Since(began); took != time.Minute+time.Second {
			t.Errorf("its context did not end it: %v", took)
		}
		c.run(t.Context(), group("b")) // every slot is taken: no waiting
		if took := time.Since(began); took != time.Minute+time.Second {
			t.Errorf("it waited for nothing: %v", took)
		}
		if err := c.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Two crews of one process share nothing.
func TestTwoCrews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, g := newForeman(), newForeman()
		first, second := newCrew(slots(1), f.work), newCrew(slots(1), g.work)
		first.wake(group("a"))
		second.wake(group("a"))
		synctest.Wait()
		if len(f.begun) != 1 || len(g.begun) != 1 {
			t.Errorf("%d and %d shifts", len(f.begun), len(g.begun))
		}
		close(f.goOn)
		if err := first.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if !second.wake(group("a")) {
			t.Error("one crew's end stopped the other")
		}
		close(g.goOn)
		if err := second.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A nudge is for the shift at work; it starts none.
func TestCrewNudge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shifts, heard := 0, 0
		c := newCrew(slots(2), func(ctx context.Context, _ storage.Group, woken <-chan struct{}) {
			shifts++
			for {
				select {
				case <-woken:
					heard++
				case <-ctx.Done():
					return
				}
			}
		})
		if !c.roomy(storage.DeliverGroup) {
			t.Error("a crew without work has no room")
		}
		c.wake(group("a"))
		c.nudge(group("a"))
		c.nudge(group("b"))
		synctest.Wait()
		if c.roomy(storage.DeliverGroup) {
			t.Error("half of the slots are taken, and there is room to stay with nothing to do")
		}
		if err := c.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if shifts != 1 || heard != 1 {
			t.Errorf("%d shifts that heard %d nudges, want 1 and 1", shifts, heard)
		}
	})
}
