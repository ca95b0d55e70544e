package jobs

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"oprelay/storage"
)

// A group that is never done gives its slot back when all are taken, and else not.
func TestTurnEndsWhenOthersWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		slots int
		over  bool
	}{{slots: 2, over: false}, {slots: 1, over: true}} {
		synctest.Test(t, func(t *testing.T) {
			w := &Worker{}
			over := make(chan bool, 1)
			w.crew = newCrew(map[storage.GroupKind]int{storage.DeliverGroup: c.slots},
				func(stop context.Context, _ storage.Group, _ <-chan struct{}) {
					turn, end := w.inTurn(stop, storage.DeliverGroup)
					defer end()
					over <- !wait(turn, 10*turnLength)
				})
			if !w.crew.wake(storage.Group{Kind: storage.DeliverGroup, ID: "busy"}) {
				t.Fatal("no slot")
			}
			if got := <-over; got != c.over {
				t.Errorf("%d slots: the turn was over: %t, want %t", c.slots, got, c.over)
			}
			if err := w.crew.stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who was woken meanwhile does not keep the slot either: others may have waited longer.
func TestFullCrewDoesNotGoOnByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shifts := 0
		c := newCrew(map[storage.GroupKind]int{storage.DeliverGroup: 1},
			func(ctx context.Context, _ storage.Group, _ <-chan struct{}) {
				shifts++
				wait(ctx, time.Second)
			})
		g := storage.Group{Kind: storage.DeliverGroup, ID: "busy"}
		c.wake(g)
		c.wake(g)
		wait(t.Context(), 10*time.Second)
		if shifts != 1 {
			t.Errorf("%d shifts, want 1", shifts)
		}
		if err := c.stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
