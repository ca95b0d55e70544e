package jobs

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"oprelay/storage"
)

// A group that is never done gives its slot back when all are taken, and else not:
// soon if nothing comes back, for then it gains nothing from keeping it.
func TestTurnEndsWhenOthersWait(t *testing.T) {
	t.Parallel()
	const life = 10 * turnLength
	for name, c := range map[string]struct {
		crowded        bool
		takes          time.Duration // a request
		leaves         bool          // may step aside
		began, stepped int           // requests until the turn ended, and those that it left behind
		at             time.Duration
	}{
		"nobody waits":            {crowded: false, takes: 900 * time.Millisecond, leaves: true, began: 23, at: life},
		"a turn":                  {crowded: true, takes: turnLength/4 - time.Millisecond, leaves: true, began: 5, stepped: 1, at: turnLength},
		"hangs":                   {crowded: true, takes: life, leaves: true, began: 1, stepped: 1, at: recheck},
		"hangs and need not care": {crowded: true, takes: life, began: 1, at: life},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stop, cancel := context.WithTimeout(t.Context(), life)
				defer cancel()
				p := &pile{due: numbers(1000), limit: 1, takes: c.takes}
				d := p.drain()
				d.crowded = func() bool { return c.crowded }
				began, at, stepped := time.Now(), life, 0
				if c.leaves {
					d.stepAside = func() {
						if stepped == 0 && stop.Err() == nil {
							at, stepped = time.Since(began), p.inFlight()
						}
					}
				}
				if _, err := d.run(stop, t.Context(), nil, leased()); err != nil {
					t.Fatal(err)
				}
				if n := len(p.done()); n != c.began || stepped != c.stepped || at != c.at {
					t.Errorf("%d requests, %d of them left behind after %v; want %d, %d, %v", n, stepped, at, c.began, c.stepped, c.at)
				}
			})
		})
	}
}

// A turn begins with the first rows, and nothing hangs that has not begun: with a slow
// database each turn would else throw away what it had claimed.
func TestTurnBeginsWithItsRows(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{recheck + recheck/5, turnLength + recheck/5} {
		synctest.Test(t, func(t *testing.T) {
			p := &pile{due: numbers(10), limit: 4, takes: 10 * time.Millisecond}
			d := p.drain()
			claim := d.claim
			d.claim = func(ctx context.Context, n int, busy map[string]bool) ([]int, time.Time, error) {
				wait(ctx, takes)
				return claim(ctx, n, busy)
			}
			d.crowded, d.stepAside = func() bool { return true }, func() {}
			if _, err := d.run(t.Context(), t.Context(), nil, leased()); err != nil || len(p.done()) < 4 {
				t.Errorf("with claims of %v: %d were done in a turn, %v", takes, len(p.done()), err)
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
