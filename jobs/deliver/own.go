package deliver

import (
	"log/slog"
	"sync"
	"time"

	"oprelay/notifier"
)

const (
	// ownPauseLeast and ownPauseMost bound how long a destination is left alone after
	// this process or its machine could not send to it: half of the time since then.
	ownPauseLeast = time.Second
	ownPauseMost  = 10 * time.Second
	// ownQuiet is how long a trouble must not occur again until it counts as over: longer than
	// ownPauseMost, after which somebody has tried again.
	ownQuiet = time.Minute
	// ownMost is how long such trouble is believed: whatever lasts longer may be a
	// destination's after all, and uses up the schedule, so that nothing is put off for ever.
	ownMost = 24 * time.Hour
)

// ownTroubles are the reasons in this process or its machine for which it cannot send. Each is
// logged once when it begins, and once when it is over.
type ownTroubles struct {
	log         *slog.Logger
	now         func() time.Time
	least, most time.Duration // of a pause

	mu  sync.Mutex
	all map[string]*ownTrouble // by what it is
}

// ownTrouble is one of them: when it was met first and last.
type ownTrouble struct{ since, last time.Time }

// met notes that nothing was sent for such a reason, and says for how long to leave the
// destination alone. It is false if the trouble has lasted for too long to be believed.
func (o *ownTroubles) met(why string) (pause time.Duration, believed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	o.forget(now)
	t := o.all[why]
	if t == nil {
		t = &ownTrouble{since: now}
		o.all[why] = t
		o.log.Warn("the relay cannot send; deliveries wait, at no cost to their schedules", "error", why)
	}
	t.last = now
	lasted := now.Sub(t.since)
	return min(max(lasted/2, o.least), o.most), lasted < ownMost
}

// sent notes that a request went out.
func (o *ownTroubles) sent() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) > 0 {
		o.forget(o.now())
	}
}

// forget ends what was not met for a while.
func (o *ownTroubles) forget(now time.Time) {
	for why, t := range o.all {
		if now.Sub(t.last).Abs() > ownQuiet {
			delete(o.all, why)
			o.log.Info("the relay can send again", "was", why, "lasted", t.last.Sub(t.since).Round(time.Millisecond))
		}
	}
}

// couldNotSend says whether nothing was sent because of the relay's own trouble. Then
// the destination is left alone for a moment, and nothing is recorded.
func (r *run) couldNotSend(s send, err error, took time.Duration) bool {
	if err == nil || explain(err).Kind != notifier.Own {
		r.own.sent()
		return false
	}
	pause, believed := r.own.met(err.Error())
	if believed {
		r.ownUntil.Store(r.now().Add(pause).UnixNano())
		r.metrics.attempted(s, err, took)
	}
	return believed
}

// ownPauseEnd is when the destination may be tried again after the relay's own trouble;
// zero if there is none.
func (r *run) ownPauseEnd() time.Time {
	if end := time.Unix(0, r.ownUntil.Load()); end.After(r.now()) {
		return end
	}
	return time.Time{}
}
