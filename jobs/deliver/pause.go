package deliver

import (
	"time"

	"oprelay/notifier"
	"oprelay/storage"
)

const (
	// pauseUnsaid is the pause after a 429 that does not say for how long.
	pauseUnsaid = time.Second
	// postponeMost is how long pauses may put one delivery off before its attempts cost
	// steps of the schedule all the same, each counted as postponeLeast at least: so a
	// receiver that refuses for ever costs 288 attempts of a delivery beside its schedule.
	postponeMost  = 24 * time.Hour
	postponeLeast = 5 * time.Minute
	// easyFor is how long after a pause a run still begins with one request.
	easyFor = 10 * time.Minute
)

// pauseAfter is for how long a destination is not sent to after a failure; 0 if it does
// not pause. random is in [0,1).
func pauseAfter(failure *notifier.Error, random float64) time.Duration {
	switch {
	case failure.Kind != notifier.RateLimited:
		return 0
	case failure.RetryAfter > 0:
		return min(failure.RetryAfter, maxRetryAfter)
	}
	return jittered(pauseUnsaid, random)
}

// postponed is by how much a pause counts as putting the delivery off, whose attempt then
// costs no step of the schedule; 0 if it costs one. A receiver that does not say for how
// long may as well refuse for good, unless it accepts others.
func postponed(due storage.DueDelivery, failure *notifier.Error, pause time.Duration, accepting bool) time.Duration {
	by := max(pause, postponeLeast)
	if pause == 0 || failure.RetryAfter == 0 && !accepting || due.Postponed+by > postponeMost {
		return 0
	}
	return by
}

// easing limits the requests under way at a destination that has asked for a pause: none during
// the pause, one after it, and one more each time that more than the limit were accepted. That is
// TCP's congestion avoidance (RFC 5681, 3.1); its slow start would overrun a receiver that counts.
type easing struct {
	until    time.Time // of the pause; zero if there was none
	limit    int
	accepted int // since the limit was raised
}

// pause begins a pause, or makes it longer.
func (e *easing) pause(until time.Time) {
	if until.After(e.until) {
		*e = easing{until: until, limit: 1}
	}
}

// accept is told of each request that was accepted. What had begun before the pause says
// nothing of what comes after it.
func (e *easing) accept(now time.Time) {
	if e.until.IsZero() || now.Before(e.until) {
		return
	}
	if e.accepted++; e.accepted > e.limit {
		e.limit, e.accepted = e.limit+1, 0
	}
}

// of is how many may be under way now, where there would be so many without a pause.
func (e *easing) of(limit int, now time.Time) int {
	switch {
	case e.until.IsZero():
		return limit
	case now.Before(e.until):
		return 0
	}
	return min(limit, e.limit)
}
