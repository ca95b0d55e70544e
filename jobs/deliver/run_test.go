package deliver

import (
	"testing"
	"time"

	"golang.org/x/time/rate"

	"oprelay/storage"
)

// A destination that fails is probed in rounds with a pause after each, for as long as
// nothing else keeps it from being sent to, and until it accepts something.
func TestProbesPause(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := &run{Deliverer: &Deliverer{now: func() time.Time { return now }}}
	r.to.Store(&opened{Destination: storage.Destination{Kind: storage.KindWebhook, MaxInFlight: 20}})
	told := func(n int, status string) {
		for range n {
			r.Learn(attempted{deliveries: []storage.AttemptResult{{Status: status}}})
		}
	}
	want := func(when string, limit int, pause time.Duration) {
		t.Helper()
		if got := r.Limit().InFlight; got != limit {
			t.Errorf("%s: %d at a time, want %d", when, got, limit)
		}
		if got := r.Pause(); got != pause {
			t.Errorf("%s: it pauses for %v, want %v", when, got, pause)
		}
	}
	told(probeAfter-1, storage.DeliveryPending)
	want("it may be chance", 20, 0)
	told(1, storage.DeliveryPending)
	want("it fails", 1, probePause)
	told(probeRound, storage.DeliveryPending)
	want("after a round", 0, probePause)
	want("in the next round", 1, probePause)
	r.Learn(attempted{deliveries: []storage.AttemptResult{{Status: storage.DeliveryPending}}, pauseUntil: now.Add(time.Second)})
	want("it has asked for a pause", 0, 0)
	now = now.Add(time.Second)
	told(1, storage.DeliverySucceeded)
	want("it has accepted one after its pause", 1, 0)
}

// What waits for its turn at a rate limit when the pause begins is not sent.
func TestPauseBeforeTheTurn(t *testing.T) {
	t.Parallel()
	r := &run{Deliverer: &Deliverer{now: time.Now, unrecorded: newUnrecorded(1, answersSoon)}, stop: t.Context(), turns: rate.NewLimiter(rate.Inf, 1)} // without a notifier to send by
	r.to.Store(&opened{Destination: storage.Destination{Kind: storage.KindWebhook, MaxInFlight: 20}})
	r.Learn(attempted{pauseUntil: time.Now().Add(time.Hour)})
	if got := r.Limit(); got.InFlight != 0 {
		t.Errorf("%d requests at a time", got.InFlight)
	}
	if _, ok := r.Do(t.Context(), send{to: r.to.Load(), deliveries: []storage.DueDelivery{{}}}); ok {
		t.Error("it was sent")
	}
}
