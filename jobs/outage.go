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
	mu   sync.Mutex
	// since is when the first failure after a success was seen; zero = all well.
	since time.Time
	// ended is when the last outage ended.
	ended time.Time
	now   func() time.Time
}

// failed notes a failure and logs it if it is the first.
func (o *outage) failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = o.now()
		o.log.Warn(o.what+" does not answer; what is due stays in the database and is done when it can be", "error", err)
	}
}

// worked notes a success and logs it if it ends an outage.
func (o *outage) worked() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		o.ended = o.now()
		o.log.Info(o.what+" answers again", "away", o.ended.Sub(o.since).Round(time.Millisecond))
		o.since = time.Time{}
	}
}

// over says whether there is no outage, and none has ended within d.
func (o *outage) over(d time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.since.IsZero() && o.now().Sub(o.ended).Abs() >= d
}
