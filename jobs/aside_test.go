package jobs

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"oprelay/storage"
)

// A shift that steps aside leaves its slot, and the task that began it, to others. Its
// group is worked through by it alone still, and stop waits for it.
func TestStepAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newForeman()
		c := newCrew(slots(1), f.work)
		took, began := time.Duration(-1), time.Now()
		go func() { c.run(t.Context(), group("a")); took = time.Since(began) }()
		synctest.Wait()
		if c.wake(group("b")) || !c.crowded(group("a")) {
			t.Fatal("there are more slots than one")
		}
		if !c.stepAside(group("a"), hanging) || !c.stepAside(group("a"), failing) {
			t.Fatal("no room")
		}
		synctest.Wait()
		if took != 0 {
			t.Error("the task waits for what has no slot")
		}
		if c.run(t.Context(), group("a")); len(f.begun) != 1 {
			t.Errorf("%d shifts at one group", len(f.begun))
		}
		if !c.wake(group("b")) {
			t.Error("the slot is not free")
		}
		stopped := false
		go func() { stopped = c.stop(t.Context()) == nil }()
		f.goOn <- struct{}{}
		synctest.Wait()
		if stopped {
			t.Error("stop waited for one of two shifts")
		}
		close(f.goOn)
		synctest.Wait()
		if !stopped || len(f.begun) != 2 {
			t.Errorf("stopped: %v, after %d shifts; want 2", stopped, len(f.begun))
		}
	})
}

// So many and no more step aside, and each trouble has room of its own. A place is
// free again when its shift ends.
func TestAsideIsBounded(t *testing.T) {
	t.Parallel()
	for why := range troubles {
		synctest.Test(t, func(t *testing.T) {
			f := newForeman()
			c := newCrew(slots(1), f.work)
			n, last := 0, group("0")
			for c.wake(last) && c.stepAside(last, why) {
				n++
				last = group(strconv.Itoa(n))
			}
			if n != asideShifts || !c.crowded(last) {
				t.Errorf("%d stepped aside, want %d", n, asideShifts)
			}
			if !c.stepAside(last, (why+1)%troubles) {
				t.Error("one trouble takes the room of the other")
			}
			close(f.goOn)
			synctest.Wait()
			if c.aside[hanging].shifts+c.aside[failing].shifts != 0 {
				t.Errorf("after all have ended: %+v", c.aside)
			}
			if err := c.stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// hangingReceivers makes destinations that refuse the first so many requests, and let
// all others hang. held counts these.
func hangingReceivers(r *relay, n int, refused int64) (ids []string, held *atomic.Int64) {
	held = new(atomic.Int64)
	for range n {
		requests := new(atomic.Int64)
		ids = append(ids, r.webhook(func(d *storage.NewDestination) {
			d.URL = serve(r.t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if requests.Add(1) <= refused {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				_, _ = io.Copy(io.Discard, q.Body) // else its client's end is not noticed
				held.Add(1)
				<-q.Context().Done()
			}))
		}).id)
	}
	return ids, held
}

// More destinations hang than there are slots, and none of their requests ends: another
// one's deliveries arrive all the same, whether those that hang are known to fail or not.
func TestHangingDestinationsLeaveSlots(t *testing.T) {
	t.Parallel()
	const few = 2
	for name, c := range map[string]struct {
		destinations int
		refused      int64
		hang         int64 // of the destinations at a time
	}{
		"never failed yet": {few*(1+asideShifts) - 1, 0, few*(1+asideShifts) - 1},
		"failing":          {6 * few, 1, few * asideShifts},
	} {
		for _, b := range backends() {
			t.Run(b.name+", "+name, func(t *testing.T) {
				t.Parallel()
				r := newRelay(t, b)
				r.config.deliverShifts, r.config.Timeout, r.config.failingPause = few, time.Hour, time.Hour
				ids, held := hangingReceivers(r, c.destinations, c.refused)
				w, credential := r.start(), r.credential("token")
				for first := 0; first < len(ids); first += 20 {
					r.watch(credential, operations("hang"+strconv.Itoa(first), 1), ids[first:min(first+20, len(ids))]...)
				}
				eventually(t, func() bool {
					due, err := r.store.DueGroups(t.Context(), 100)
					if err != nil {
						t.Fatal(err)
					}
					return held.Load() >= c.hang && len(due) == 0
				}, nil, "as many to hang as can, and no other to wait")
				healthy := r.webhook(nil)
				for i := range 10 {
					r.watch(credential, operations("healthy"+strconv.Itoa(i), 2), healthy.id)
					r.await(healthy, 2*(i+1))
				}
				for _, id := range ids {
					if d := r.deliveries(id)[0]; int64(d.AttemptsMade) > c.refused {
						t.Errorf("it was waited for: %+v", d)
					}
				}
				cutOff, cancel := context.WithCancel(t.Context())
				cancel()
				if err := w.Stop(cutOff); err == nil {
					t.Error("stop did not wait for what is under way")
				}
			})
		}
	}
}
