package jobs

import (
	"log/slog"
	"sync"
	"time"
)

// outage logs that something went away once, and once that it is back: an hour
// without Redis is two lines, not a thousand.
type outage struct {
	log  *slog.Logger
	what string
	// harmless is how long it may be away without anything having come of it.
	harmless time.Duration
	now      func() time.Time

	mu sync.Mutex
	// since is when it last answered before the first failure; zero = all well.
	since time.Time
	// answered is when it last answered.
	answered time.Time
	// ended is when the last outage ended that was not harmless.
	ended time.Time
}

// failed notes a failure and logs it if it is the first.
func (o *outage) failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		// The failure may have taken its time.
		if o.since = o.answered; o.since.IsZero() {
			o.since = o.now()
		}
		o.log.Warn(o.what+" does not answer; what is due stays in the database and is done when it can be", "error", err)
	}
}

// worked notes a success and logs it if it ends an outage.
func (o *outage) worked() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answered = o.now()
	if o.since.IsZero() {
		return
	}
	away := o.answered.Sub(o.since)
	o.log.Info(o.what+" answers again", "away", away.Round(time.Millisecond))
	o.since = time.Time{}
	if away >= o.harmless {
		o.ended = o.answered
	}
}

// over says whether there is no outage, and none has ended within d but harmless
// ones.
func (o *outage) over(d time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.since.IsZero() && o.now().Sub(o.ended).Abs() >= d
}
