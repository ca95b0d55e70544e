package deliver

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"oprelay/notifier"
)

// receiver accepts what it gets, after some time, and counts it.
type receiver struct {
	Notifier

	takes time.Duration
	sent  atomic.Int64
}

// SendWebhook implements Notifier.
func (r *receiver) SendWebhook(ctx context.Context, _ notifier.Webhook, _ notifier.Message) (notifier.Outcome, error) {
	r.sent.Add(1)
	select {
	case <-time.After(r.takes):
		return notifier.Outcome{StatusCode: 204}, nil
	case <-ctx.Done():
		return notifier.Outcome{}, ctx.Err()
	}
}

// process sends to receivers, and is told when to record what has come of it.
type process struct {
	unrecorded *unrecorded
	answered   chan attempted
	stop       context.Context
}

// send has the receiver sent as many at once, and waits until no more of them can begin.
func (p *process) send(to *receiver, n int) {
	log := slog.New(slog.DiscardHandler)
	r := &run{
		Deliverer: &Deliverer{
			notifier: to, timeout: time.Hour, now: time.Now, log: log, metrics: newMetrics(nil),
			own: &ownTroubles{log: log, now: time.Now}, unrecorded: p.unrecorded,
		},
		stop: p.stop, turns: rate.NewLimiter(rate.Inf, 1),
	}
	for range n {
		go func() {
			if a, ok := r.Do(p.stop, aDelivery("")); ok {
				p.answered <- a
			}
		}()
	}
	synctest.Wait()
}

// record records so many of those that were answered.
func (p *process) record(n int) {
	for range n {
		(<-p.answered).place.recorded()
	}
	synctest.Wait()
}

// inProcess runs the test in one that has so many places.
func inProcess(t *testing.T, places int, test func(p *process)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stop, cancel := context.WithCancel(t.Context())
		test(&process{unrecorded: newUnrecorded(places, answersSoon), answered: make(chan attempted, 100), stop: stop})
		cancel()
		synctest.Wait()
	})
}

// pass lets time pass, and all happen that it brings.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (r *receiver) want(t *testing.T, when string, n int64) {
	t.Helper()
	if got := r.sent.Load(); got != n {
		t.Errorf("%s: %d were sent, want %d", when, got, n)
	}
}

// All destinations together have no more sent and unrecorded than there are places.
func TestUnrecorded(t *testing.T) {
	const places = 4
	inProcess(t, places, func(p *process) {
		one, other := &receiver{}, &receiver{}
		p.send(one, 3)
		p.send(other, 10)
		other.want(t, "beside three that nobody has recorded", 1)
		pass(destinationTTL / 2)
		other.want(t, "some time later", 1)
		p.record(2)
		other.want(t, "two are recorded", 3)
		p.record(places)
		other.want(t, "all are recorded", 7)
	})
}

// Receivers that hang keep no place from others. What they answer in the end counts again.
func TestUnrecordedOfTheSlow(t *testing.T) {
	inProcess(t, 2, func(p *process) {
		slow, quick := &receiver{takes: destinationTTL / 2}, &receiver{}
		p.send(slow, 2)
		p.send(quick, 5)
		quick.want(t, "two are under way", 0)
		pass(answersSoon)
		quick.want(t, "they are slow", 2)
		pass(destinationTTL / 2)
		p.record(2)
		quick.want(t, "their answers have come, and wait", 2)
		p.record(1)
		quick.want(t, "one is left that waits", 3)
	})
}

// Results that wait for a lock of somebody else's keep no place, and are counted once.
func TestUnrecordedOnce(t *testing.T) {
	inProcess(t, 1, func(p *process) {
		to := &receiver{}
		p.send(to, 3)
		first := <-p.answered
		first.place.recorded()
		first.place.recorded()
		synctest.Wait()
		to.want(t, "the first is recorded twice", 2)
	})
}

// What has waited for long may have changed, and is claimed anew.
func TestUnrecordedForLong(t *testing.T) {
	inProcess(t, 1, func(p *process) {
		to := &receiver{}
		p.send(to, 3)
		pass(destinationTTL)
		p.record(1)
		to.want(t, "two have waited for long", 1)
		p.send(to, 1)
		to.want(t, "it is claimed anew", 2)
	})
}

// What was not sent has no place.
func TestUnrecordedUnsent(t *testing.T) {
	inProcess(t, 1, func(p *process) {
		stop, cancel := context.WithCancelCause(p.stop)
		p.stop = stop
		hanging := &receiver{takes: time.Hour}
		p.send(hanging, 1)
		cancel(errors.New("the run is over"))
		synctest.Wait()
		if n := len(p.unrecorded.places); n != 0 {
			t.Errorf("%d places are taken", n)
		}
	})
}
