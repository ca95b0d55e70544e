package jobs

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"oprelay/storage"
)

func group(id string) storage.Group { return storage.Group{Kind: storage.DeliverGroup, ID: id} }

func room(n int) [lanes]int { return [lanes]int{n, n, n} }

// manual is the work on groups in tests: it says when it begins and goes on when told.
type manual struct {
	begun chan storage.Group
	goOn  chan struct{}
}

func newManual() *manual {
	return &manual{begun: make(chan storage.Group, 100), goOn: make(chan struct{})}
}

func (m *manual) work(context.Context, storage.Group, <-chan struct{}) {
	// The group does not matter to who only counts.
	m.begun <- storage.Group{}
	<-m.goOn
}

func TestOneAtAGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newManual()
		gs := newGroups(room(10), f.work)
		for range 5 {
			if !gs.wake(group("a")) || !gs.wake(group("b")) {
				t.Fatal("not woken")
			}
		}
		synctest.Wait()
		if len(f.begun) != 2 {
			t.Errorf("%d runs for 2 groups", len(f.begun))
		}
		// The wake-ups meanwhile were heard: each is worked through once more.
		f.goOn <- struct{}{}
		f.goOn <- struct{}{}
		synctest.Wait()
		if len(f.begun) != 4 {
			t.Errorf("%d runs after both were woken again, want 4", len(f.begun))
		}
		close(f.goOn)
		if err := gs.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if len(f.begun) != 4 {
			t.Errorf("%d runs in the end, want 4", len(f.begun))
		}
	})
}

// Work that hears of the wake-up itself need not be followed by more.
func TestWakesWhoIsAtWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs, heard := 0, 0
		gs := newGroups(room(1), func(ctx context.Context, _ storage.Group, woken <-chan struct{}) {
			runs++
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
			gs.wake(group("a"))
			synctest.Wait()
		}
		if err := gs.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if runs != 1 || heard != 2 {
			t.Errorf("%d runs that heard %d wake-ups, want 1 and 2", runs, heard)
		}
	})
}

func TestLanesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newManual()
		gs := newGroups(room(3), f.work)
		woken := 0
		for i := range 10 {
			if gs.wake(group(strconv.Itoa(i))) {
				woken++
			}
		}
		if woken != 3 {
			t.Errorf("%d groups at a time, want 3", woken)
		}
		f.goOn <- struct{}{}
		synctest.Wait()
		if !gs.wake(group("9")) {
			t.Error("a place was not given back")
		}
		if !gs.wake(storage.Group{Kind: storage.PollGroup, ID: "0"}) {
			t.Error("deliveries starve polls")
		}
		close(f.goOn)
		if err := gs.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStopWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		told := false
		gs := newGroups(room(1), func(ctx context.Context, _ storage.Group, _ <-chan struct{}) {
			<-ctx.Done() // no new work
			told = true
			wait(context.Background(), time.Minute) // what is in flight
		})
		gs.wake(group("a"))
		began := time.Now()
		if err := gs.stop(t.Context()); err != nil || !told {
			t.Errorf("%v; the work was told: %v", err, told)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it waited for %v", took)
		}
		if gs.wake(group("b")) {
			t.Error("what was stopped took work")
		}
	})
}

func TestStopGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gs := newGroups(room(1), func(context.Context, storage.Group, <-chan struct{}) { wait(context.Background(), time.Hour) })
		gs.wake(group("a"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := gs.stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := gs.stop(t.Context()); err != nil {
			t.Errorf("the second time, with patience: %v", err)
		}
	})
}

func TestRunWaitsForItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gs := newGroups(room(1), func(context.Context, storage.Group, <-chan struct{}) { wait(context.Background(), time.Minute) })
		began := time.Now()
		gs.run(t.Context(), group("a"))
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it waited for %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		gs.run(ctx, group("a"))
		if took := time.Since(began); took != time.Minute+time.Second {
			t.Errorf("its context did not end it: %v", took)
		}
		gs.run(t.Context(), group("b")) // the lane is full: no waiting
		if took := time.Since(began); took != time.Minute+time.Second {
			t.Errorf("it waited for nothing: %v", took)
		}
		if err := gs.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Two workers in one process share nothing.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, g := newManual(), newManual()
		first, second := newGroups(room(1), f.work), newGroups(room(1), g.work)
		first.wake(group("a"))
		second.wake(group("a"))
		synctest.Wait()
		if len(f.begun) != 1 || len(g.begun) != 1 {
			t.Errorf("%d and %d runs", len(f.begun), len(g.begun))
		}
		close(f.goOn)
		if err := first.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if !second.wake(group("a")) {
			t.Error("one's end stopped the other")
		}
		close(g.goOn)
		if err := second.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A nudge is for work that goes on; it starts none. A task is of what a nudge has told already.
func TestNudge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs, heard := 0, 0
		gs := newGroups(room(2), func(ctx context.Context, _ storage.Group, woken <-chan struct{}) {
			runs++
			for {
				select {
				case <-woken:
					heard++
				case <-ctx.Done():
					return
				}
			}
		})
		gs.wake(group("a"))
		gs.hear(group("a"), false)
		gs.hear(group("b"), false)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		gs.run(ctx, group("a"))
		synctest.Wait()
		if gs.idleWait(group("a")) > 0 {
			t.Error("half of the lane is taken, and there is room to stay with nothing to do")
		}
		if err := gs.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if runs != 1 || heard != 1 {
			t.Errorf("%d runs that heard %d nudges, want 1 and 1", runs, heard)
		}
	})
}

// Of a wake-up that comes through Redis all processes hear. Each tries to get the lease once;
// those who do not get it tell nobody, and leave the group alone while another is at it.
func TestHearsOfAWakeUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []bool
		var gs *groups
		gs = newGroups(room(2), func(_ context.Context, g storage.Group, _ <-chan struct{}) { told = append(told, gs.refused(g)) })
		try := func(begin func(storage.Group), want ...bool) {
			t.Helper()
			told = nil
			begin(group("a"))
			synctest.Wait()
			if !slices.Equal(told, want) {
				t.Errorf("whoever holds the lease was told: %v, want %v", told, want)
			}
		}
		wakeUp := func(g storage.Group) { gs.hear(g, true) }
		try(wakeUp, false)
		try(wakeUp) // another is at it
		try(func(g storage.Group) { gs.run(t.Context(), g) }, false)
		try(func(g storage.Group) { gs.wake(g) }, true) // of this one nobody else hears
		wait(t.Context(), elsewhereFor)
		try(wakeUp, false)
		if err := gs.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Who was woken meanwhile does not keep its place either: others may have waited longer.
func TestFullLaneDoesNotGoOnByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		gs := newGroups(room(1),
			func(ctx context.Context, _ storage.Group, _ <-chan struct{}) {
				runs++
				wait(ctx, time.Second)
			})
		g := storage.Group{Kind: storage.DeliverGroup, ID: "busy"}
		gs.wake(g)
		gs.wake(g)
		wait(t.Context(), 10*time.Second)
		if runs != 1 {
			t.Errorf("%d runs, want 1", runs)
		}
		if err := gs.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
