package deliver

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"oprelay/jobs/pipeline"
	"oprelay/storage"
)

const (
	// After probeAfter failures in a row a destination gets one delivery at a time until it
	// accepts one. After each probeRound of these probes the run pauses, see Pause.
	probeAfter = 5
	probeRound = 16
	// probePause is the pause between rounds of probes, so that the retries that become due
	// meanwhile share a claim and a commit.
	probePause = 250 * time.Millisecond
	// failingInFlight is how many requests a destination that was failing at its last
	// run may have under way until it accepts one.
	failingInFlight = 8
	// slackPerSecond is Slack's limit for one channel:
	// https://docs.slack.dev/apis/web-api/rate-limits
	slackPerSecond = 1
)

// opened is a destination with its secrets.
type opened struct {
	storage.Destination
	storage.DestinationSecret
}

// run is one run at a destination: from getting its lease to giving it back.
type run struct {
	*Deliverer
	pipeline.Lease

	stop     context.Context        //nolint:containedctx // of the run, as the whole of this
	to       atomic.Pointer[opened] // as last read
	openedAt time.Time
	claimed  bool
	turns    *rate.Limiter
	// wasFailing is set if it was failing when the run began.
	wasFailing bool

	// What the answers say, as they come in:
	failures int // in a row, up to now
	probes   int // of this round
	easing   easing
	paused   atomic.Bool // no request is to begin, as easing said last
	accepted atomic.Bool // one of this run's
	disabled bool        // or about to be

	// gatherUntil is until when a Slack channel gets no further digest.
	gatherUntil time.Time

	ownUntil atomic.Int64 // nanoseconds: see ownPauseEnd
}

// begin goes by what the runs before have recorded of the destination.
func (r *run) begin() {
	to := r.to.Load()
	r.failures = to.ConsecutiveFailures
	// One that is disabled has deliveries to hold, pause or not.
	if to.Status == storage.DestinationEnabled && r.now().Before(to.PausedUntil.Add(easyFor)) {
		r.easing.pause(to.PausedUntil)
	}
}

// reopen reads the destination's settings, so that a change of them applies within
// destinationTTL.
func (r *run) reopen(ctx context.Context) error {
	if r.now().Sub(r.openedAt).Abs() < destinationTTL {
		return nil
	}
	destination, secret, err := r.store.OpenDestination(ctx, r.Group)
	if err != nil {
		return err
	}
	r.to.Store(&opened{destination, secret})
	r.openedAt = r.now()
	perSecond := rate.Inf
	switch {
	case destination.RateLimit > 0:
		perSecond = rate.Limit(destination.RateLimit)
	case destination.Kind == storage.KindSlack:
		perSecond = slackPerSecond
	}
	if r.turns.Limit() != perSecond {
		r.turns.SetLimit(perSecond)
	}
	return nil
}

// Claim implements pipeline.Work.
func (r *run) Claim(ctx context.Context, n int, busy map[string]bool) ([]send, time.Time, error) {
	if len(busy) == 0 && r.claimed { // after a pause, which a new run would have begun
		r.openedAt = time.Time{}
	}
	r.claimed = true
	if err := r.reopen(ctx); err != nil {
		return nil, time.Time{}, err
	}
	to, take := r.to.Load(), storage.TakeDeliveries{Group: r.Group, Owner: r.Owner, Max: n, Exclude: busy}
	if to.Kind == storage.KindSlack {
		return r.claimMessage(ctx, to, take)
	}
	due, err := r.store.DueDeliveries(ctx, take)
	sends := make([]send, len(due))
	for i := range due {
		sends[i] = send{to: to, deliveries: due[i : i+1 : i+1]}
	}
	return sends, time.Time{}, err
}

// Limit implements pipeline.Work. The destination has no request under way while it
// pauses, few after that, one while it fails. A Slack channel gets one, which also keeps
// the updates of one message in order. Where there is a rate limit, no more are begun than a
// second allows, so that none waits for its turn much longer than that.
func (r *run) Limit() pipeline.Limit {
	if r.now().Before(r.ownPauseEnd()) {
		return pipeline.Limit{}
	}
	to := r.to.Load()
	most := to.MaxInFlight
	if to.RateLimit > 0 {
		most = min(most, to.RateLimit)
	}
	most = r.easing.of(max(1, most), r.now())
	r.paused.Store(most == 0)
	switch {
	case r.disabled, most == 0:
		return pipeline.Limit{}
	case to.Kind == storage.KindSlack:
		return pipeline.Limit{InFlight: 1, Careful: true}
	case r.probing() && r.probes >= probeRound:
		return pipeline.Limit{}
	case r.probing():
		most = 1
	case r.wasFailing && r.failures > 0:
		most = min(most, failingInFlight)
	}
	return pipeline.Limit{InFlight: most}
}

// Learn implements pipeline.Work. It keeps what an answer says of the destination: a
// success ends a row of failures, and more.
func (r *run) Learn(a attempted) (more bool) {
	if len(a.deliveries) > 0 && !onlyFailures(a.deliveries) {
		r.failures = 0
		r.easing.accept(r.now())
		r.accepted.Store(true)
		if a.digest {
			r.gatherUntil = r.now().Add(r.gatherFor)
		}
	} else {
		if len(a.deliveries) > 0 {
			r.failures++
		}
		r.probes++
	}
	if r.to.Load().ChangedAt.After(a.began) {
		return false // it was somebody else's answer
	}
	r.easing.pause(a.pauseUntil)
	r.disabled = r.disabled || a.disable != ""
	return false
}

func (r *run) probing() bool { return r.failures >= probeAfter }

// Pause implements pipeline.Work. It ends a round of probes, and is how long to let
// retries gather before the next.
func (r *run) Pause() time.Duration {
	r.probes = 0
	if r.probing() && r.Limit().InFlight > 0 {
		return probePause
	}
	return 0
}

// nextTurn is when the destination's rate limit lets it be sent to next, whichever process
// does; zero if nothing is to wait for that.
func (r *run) nextTurn() time.Time {
	if r.disabled { // then there is nothing to send, but deliveries to hold
		return time.Time{}
	}
	next := r.turns.Reserve()
	defer next.Cancel()
	if delay := next.Delay(); delay > 0 {
		return r.now().Add(delay)
	}
	return time.Time{}
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
