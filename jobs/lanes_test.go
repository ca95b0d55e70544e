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

	"oprelay/jobs/deliver"
	"oprelay/storage"
)

// A group that fails leaves its place to others, and is still worked on by nobody else;
// stop waits for it. The lane of those that fail is bounded too.
func TestFailingLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManual()
		gs := newGroups([lanes]int{healthyLane: 1, failingLane: 2}, m.work)
		for i := range 2 {
			g := group(strconv.Itoa(i))
			if !gs.wake(g) || !gs.crowded(g) {
				t.Fatal("there is no room, or more than one place")
			}
			for range 2 {
				if !gs.fails(g) {
					t.Fatal("no room among those that fail")
				}
			}
		}
		if !gs.crowded(group("0")) || !gs.wake(group("0")) {
			t.Error("it is worked on no more, or others may not be waiting for its place")
		}
		last := group("2")
		if !gs.wake(last) || gs.fails(last) {
			t.Error("more fail at a time than there is room for")
		}
		if gs.wake(group("3")) {
			t.Error("one that finds no room there did not keep its place")
		}
		synctest.Wait()
		if len(m.begun) != 3 {
			t.Errorf("%d runs at 3 groups", len(m.begun))
		}
		stopped := false
		go func() { stopped = gs.stop(t.Context()) == nil }()
		m.goOn <- struct{}{}
		m.goOn <- struct{}{}
		synctest.Wait()
		if stopped {
			t.Error("stop waited for two of three")
		}
		close(m.goOn)
		synctest.Wait()
		if !stopped || gs.taken != [lanes]int{} {
			t.Errorf("stopped: %v, with %v at work", stopped, gs.taken)
		}
	})
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

// Destinations hang, and none of their requests ends: another one's deliveries arrive all
// the same. Of those that go on failing there may be any number, of others as many as
// leave one place.
func TestHangingDestinationsLeaveRoom(t *testing.T) {
	t.Parallel()
	const healthy, failing = 3, 2
	for name, c := range map[string]struct {
		destinations int
		refused      int64
		hang         int64 // of the destinations at a time
	}{
		"never failed yet": {healthy - 1, 0, healthy - 1},
		"failing":          {4 * healthy, 2, failing},
	} {
		for _, b := range backends() {
			t.Run(b.name+", "+name, func(t *testing.T) {
				t.Parallel()
				r := newRelay(t, b)
				r.config.healthyRoom, r.config.failingRoom = healthy, failing
				r.deliver.Timeout, r.deliver.FailingPause = time.Hour, time.Hour
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
				to := r.webhook(nil)
				for i := range 10 {
					r.watch(credential, operations("healthy"+strconv.Itoa(i), 2), to.id)
					r.await(to, 2*(i+1))
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

// More destinations begin to hang at once than there is room for: they keep their places
// for a timeout, and from then on delay nobody.
func TestAllPlacesHang(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.config.healthyRoom, r.config.failingRoom = 3, 2
			r.deliver.Timeout, r.deliver.FailingPause = 500*time.Millisecond, time.Hour
			r.deliver.Retry = deliver.RetrySchedule{time.Hour}
			ids, held := hangingReceivers(r, 5, 0)
			credential, to := r.credential("token"), r.webhook(nil)
			r.start()
			r.watch(credential, operations("hang", 1), ids...)
			eventually(t, func() bool { return held.Load() >= 3 }, nil, "all places to be taken")
			r.watch(credential, operations("healthy", 2), to.id)
			r.await(to, 2)
			for _, id := range ids {
				eventually(t, func() bool { return r.destination(id).ConsecutiveFailures > 0 }, nil, "a timeout")
			}
			r.watch(credential, operations("hang again", 1), ids...)
			r.watch(credential, operations("healthy still", 2), to.id)
			r.await(to, 4)
		})
	}
}
