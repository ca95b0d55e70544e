package jobs

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"oprelay/jobs/deliver"
	"oprelay/notifier/webhooktest"
	"oprelay/storage"
)

// busy answers everything with a pause until it is over.
func busy(status int, retryAfter string) webhooktest.Script {
	return webhooktest.Always(webhooktest.Answer{Status: status, RetryAfter: retryAfter})
}

// bucket takes so many messages in each period of the relay's time, and refuses others.
type bucket struct {
	now        func() time.Time
	most       int
	period     time.Duration
	retryAfter string

	mu    sync.Mutex
	began time.Time
	taken int
}

func (b *bucket) answer(webhooktest.Arrival) webhooktest.Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now(); now.Sub(b.began) >= b.period {
		b.began, b.taken = now, 0
	}
	if b.taken++; b.taken > b.most {
		return webhooktest.Answer{Status: http.StatusTooManyRequests, RetryAfter: b.retryAfter}
	}
	return webhooktest.Answer{}
}

// group is the work at a destination.
func (to receiver) group() storage.Group { return storage.Group{Kind: storage.DeliverGroup, ID: to.id} }

// pass has the pauses of the destination go by at once, until it is done.
func (r *relay) pass(to receiver, done func() bool, what string) {
	r.t.Helper()
	eventually(r.t, func() bool {
		if left := r.destination(to.id).PausedUntil.Sub(r.store.Steady()); left > 0 {
			r.skipped.Add(int64(left))
		}
		r.due([]storage.Group{to.group()})
		return done()
	}, nil, "%s", what)
}

// paused waits until the destination pauses, for about so long.
func (r *relay) paused(to receiver, length time.Duration) storage.Destination {
	r.t.Helper()
	var d storage.Destination
	eventually(r.t, func() bool {
		d = r.destination(to.id)
		return !d.PausedUntil.IsZero()
	}, nil, "a pause")
	if left := d.PausedUntil.Sub(r.store.Steady()); left > length || left < length-time.Minute {
		r.t.Errorf("it pauses for %v, want %v", left, length)
	}
	return d
}

// statuses counts what the arrivals were answered.
func statuses(arrivals []webhooktest.Arrival) map[int]int {
	n := map[int]int{}
	for _, a := range arrivals {
		n[a.Status]++
	}
	return n
}

// A pause holds for all that waits for the destination, in every process, and for no
// other. After it the destination is probed, and then sent to as fast as it accepts.
func TestRetryAfterPausesTheDestination(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.deliver.DisableAfter = 1000 * time.Hour
			const messages, inFlight = 200, 20
			stand, other := r.webhook(nil), r.webhook(nil)
			var at *counter
			// Each is held for long enough that those that are under way together meet.
			to := r.webhook(func(n *storage.NewDestination) { at = counted(t, n, stand, 50*time.Millisecond) })
			stand.Respond(busy(http.StatusServiceUnavailable, "3600"))
			w := r.start()
			credential := r.credential("token")
			r.watch(credential, operations("op", messages), to.id, other.id)
			r.settled(messages, other.id, storage.DeliverySucceeded)
			end := r.store.Dated(r.paused(to, time.Hour).PausedUntil)
			for _, d := range r.settled(messages, to.id, storage.DeliveryPending) {
				if early := end.Sub(d.NextAttemptAt); early > time.Second {
					t.Fatalf("it says that it is due %v before the pause is over: %+v", early, d)
				}
			}
			// A process dies, and another finds more to do.
			dead, cancel := context.WithCancel(t.Context())
			cancel()
			_ = w.Stop(dead)
			r.start()
			r.watch(credential, []string{"more"}, to.id, other.id)
			r.settled(messages+1, other.id, storage.DeliverySucceeded)
			refused := len(stand.Arrivals())
			if refused > inFlight {
				t.Errorf("%d requests before the pause and within it", refused)
			}

			stand.Respond(webhooktest.Always(webhooktest.Answer{}))
			at.most()
			all := func() bool { return len(events(stand.Arrivals())) == messages+1 }
			r.pass(to, func() bool { return len(stand.Arrivals()) >= refused+6 }, "the first messages after the pause")
			if most := at.most(); most > 4 {
				t.Errorf("%d requests at a time among the first after a pause", most)
			}
			r.pass(to, all, "all messages")
			if most := at.most(); most < inFlight/2 {
				t.Errorf("%d requests at a time to a destination that accepts everything", most)
			}
			for _, d := range r.settled(messages+1, to.id, storage.DeliverySucceeded) {
				if d.AttemptsMade > 2 {
					t.Errorf("%d attempts", d.AttemptsMade)
				}
			}
			if got := statuses(stand.Arrivals()); got[http.StatusServiceUnavailable] != refused || got[http.StatusNoContent] != messages+1 {
				t.Errorf("answers: %v", got)
			}
		})
	}
}

// A receiver that takes less than it is sent gets everything, with however short a schedule
// if it says when to come again, and is asked little more often than it accepts.
func TestReceiverThatTakesTenInTenSeconds(t *testing.T) {
	t.Parallel()
	const messages = 50
	// Of the first, as many may be refused as are under way when a refusal comes back; after each of
	// some five pauses four more, for ten that are accepted let no more be under way.
	const refused = 20 + 5*4
	for _, test := range []struct {
		name, retryAfter string
		schedule         deliver.RetrySchedule
		most             int // requests
	}{
		{"it says for how long", "10", deliver.RetrySchedule{2 * time.Second}, messages + refused},
		{"it does not", "", slices.Repeat(deliver.RetrySchedule{2 * time.Second}, 9), messages * 5 / 2},
	} {
		for _, b := range backends() {
			t.Run(test.name+", "+b.name, func(t *testing.T) {
				t.Parallel()
				r := newRelay(t, b)
				r.deliver.Retry = test.schedule
				r.deliver.DisableAfter = 1000 * time.Hour
				to := r.webhook(nil)
				takes := &bucket{now: r.store.Steady, most: 10, period: 10 * time.Second, retryAfter: test.retryAfter}
				to.Respond(takes.answer)
				r.start()
				r.watch(r.credential("token"), operations("op", messages), to.id)
				r.pass(to, func() bool { return len(events(to.Arrivals())) == messages }, "all messages")
				r.settled(messages, to.id, storage.DeliverySucceeded)
				if n := len(to.Arrivals()); n > test.most {
					t.Errorf("%d requests for %d messages, want %d at most", n, messages, test.most)
				}
			})
		}
	}
}

// A receiver that puts a delivery off for ever has its schedule used up in the end.
func TestRetryAfterForEver(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		retryAfter string
		length     time.Duration
		free       int // attempts that cost nothing
	}{{"604800", 24 * time.Hour, 1}, {"14400", 4 * time.Hour, 6}} {
		t.Run(test.retryAfter, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, sqliteBackend())
			r.deliver.DisableAfter = 1000 * time.Hour
			to := r.webhook(nil)
			to.Respond(busy(http.StatusTooManyRequests, test.retryAfter))
			r.start()
			r.watch(r.credential("token"), operations("op", 2), to.id)
			r.paused(to, test.length)
			r.pass(to, func() bool {
				return !slices.ContainsFunc(r.deliveries(to.id), func(d storage.Delivery) bool { return d.Status == storage.DeliveryPending })
			}, "the end of the schedules")
			for _, d := range r.settled(2, to.id, storage.DeliveryFailed) {
				if want := test.free + len(r.deliver.Retry) + 1; d.AttemptsMade != want {
					t.Errorf("%d attempts, want %d", d.AttemptsMade, want)
				}
			}
		})
	}
}

func TestRetryAfterAsADate(t *testing.T) {
	t.Parallel()
	r := newRelay(t, sqliteBackend())
	to := r.webhook(nil)
	to.Respond(busy(http.StatusServiceUnavailable, time.Now().Add(2*time.Hour).UTC().Format(http.TimeFormat)))
	r.start()
	r.watch(r.credential("token"), []string{"op"}, to.id)
	r.paused(to, 2*time.Hour)
}
