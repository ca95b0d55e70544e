package jobs

import (
	"log/slog"
	"sync"
	"time"
)

// outage logs once that the database went away, and once that it is back: an hour
// without it is two lines, not a thousand.
type outage struct {
	log *slog.Logger
	// complaint says what an error means.
	complaint func(error) string
	// harmless is how long it may be away without anything having come of it.
	harmless time.Duration
	// confirm is how long it has to work before its return is logged: a disk that is all
	// but full takes a small write now and then.
	confirm time.Duration
	now     func() time.Time

	mu sync.Mutex
	// since is when it last answered before the first failure; zero = all well.
	since time.Time
	// gone and back are when it last answered before it failed last, and when it first
	// did since; back is zero while it does not.
	gone, back time.Time
	// answered is when it last answered.
	answered time.Time
	// ended is when the last outage ended that was not harmless.
	ended time.Time
}

// failed notes a failure and logs it if it is the first.
func (o *outage) failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	said := !o.since.IsZero()
	if said && o.back.IsZero() {
		return
	}
	// The failure may have taken its time.
	if o.gone = o.answered; o.gone.IsZero() {
		o.gone = o.now()
	}
	if o.back = (time.Time{}); said {
		return
	}
	o.since = o.gone
	o.log.Warn("the database "+o.complaint(err)+"; what is due stays in the database and is done when it can be", "error", err)
}

// worked notes a success, and logs that an outage is over.
func (o *outage) worked() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answered = o.now()
	if o.since.IsZero() {
		return
	}
	if o.back.IsZero() {
		if o.back = o.answered; o.back.Sub(o.gone) >= o.harmless {
			o.ended = o.back
		}
	}
	if o.answered.Sub(o.back) < o.confirm {
		return
	}
	o.log.Info("the database answers again", "away", o.back.Sub(o.since).Round(time.Millisecond))
	o.since = time.Time{}
}

// over says whether there is no outage, and none has ended within d but harmless
// ones. It does not wait for the end to be confirmed.
func (o *outage) over(d time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return (o.since.IsZero() || !o.back.IsZero()) && o.now().Sub(o.ended).Abs() >= d
}
