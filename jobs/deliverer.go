package jobs

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"oprelay/notifier"
	"oprelay/storage"
)

const (
	// probeAfter failures in a row, a destination is probed with one delivery at
	// a time until it accepts one: probeRound of them, and then it rests.
	probeAfter = 5
	probeRound = 16
	// slackPerSecond is Slack's limit for one channel:
	// https://docs.slack.dev/apis/web-api/rate-limits
	slackPerSecond = 1
	// destinationTTL is how long a visit goes by a destination's settings before it
	// reads them again.
	destinationTTL = time.Second
	// credentialTTL is how long a credential's secret is kept in memory.
	credentialTTL = 30 * time.Second
	// failingInFlight is how many requests a destination that was failing at its last
	// visit may have under way until it accepts one.
	failingInFlight = 8
	// probeRest is how long what becomes due at such a destination gathers: each retry by
	// itself would cost a claim and a commit, and many keep the machine from others.
	probeRest = 250 * time.Millisecond
	// failingPause is how long a failing destination rests if too many others are
	// being tried.
	failingPause = 10 * time.Second
)

// Notifier sends one message once and reports what came of it. What went wrong
// is a *notifier.Error.
type Notifier interface {
	SendWebhook(ctx context.Context, w notifier.Webhook, m notifier.Message) (notifier.Outcome, error)
	SendSlackWebhook(ctx context.Context, url string, m notifier.Message) (notifier.Outcome, error)
	SendSlackBot(ctx context.Context, token, channel string, previous notifier.SlackRef, m notifier.Message) (notifier.Outcome, error)
}

// attemptWriters is how many commits of attempts a process has under way: results of
// many destinations share one, and the next is prepared while one waits for the disk.
const attemptWriters = 2

// deliverer works through destinations.
type deliverer struct {
	store        *storage.Store
	notifier     Notifier
	schedule     RetrySchedule
	timeout      time.Duration // of one attempt, the answer's body included
	disableAfter time.Duration
	failingPause time.Duration
	links        links
	now          func() time.Time
	log          *slog.Logger
	metrics      *metrics
	traces       tracing
	throng       throng
	joint        *joint[storage.AttemptResult]
}

// writeAttempts writes attempts at any destinations: ErrLocked if it would wait for one.
func (d *deliverer) writeAttempts(ctx context.Context, results []storage.AttemptResult) error {
	err := d.store.RecordAttemptsNow(ctx, results)
	if err == nil {
		d.metrics.recorded(storage.DeliverGroup, len(results))
	}
	return err
}

// opened is a destination with its secrets.
type opened struct {
	storage.Destination
	storage.DestinationSecret
}

// visit is one stay at a destination: from getting its lease to giving it back.
type visit struct {
	*deliverer
	turn
	to       atomic.Pointer[opened] // as last read
	openedAt time.Time
	claimed  bool
	turns    *rate.Limiter
	// wasFailing is set if it was failing when the visit began.
	wasFailing bool

	// What the answers say, as they come in:
	failures   int // in a row, up to now
	probes     int // of this round
	pauseUntil time.Time
	disabled   bool // or about to be
}

// work sends what is due to the destination while the group's lease holds.
func (d *deliverer) work(stop, work context.Context, t turn) (notBefore time.Time, err error) {
	v := &visit{deliverer: d, turn: t, turns: rate.NewLimiter(rate.Inf, 1)}
	if err = v.reopen(work); err == nil {
		v.failures = v.to.Load().ConsecutiveFailures
		if v.wasFailing = v.failures > 0; v.wasFailing && !t.stepAside(failing) {
			return v.now().Add(d.failingPause), nil
		}
		run := drain[errand, attempted]{
			claim: v.claim, pace: v.pace, id: errand.id, do: v.do, learn: v.learn, record: v.record,
			ahead: ahead, rest: v.rest, linger: t.linger, fresh: destinationTTL, throng: &v.throng, crowded: t.crowded,
			stepAside: func() { t.stepAside(hanging) },
		}
		notBefore, err = run.run(stop, work, t.woken, t.leased)
		notBefore = v.rested(notBefore)
	}
	if errors.Is(err, storage.ErrNotFound) { // deleted: this cancels what is left of its deliveries
		_, err = v.store.DueDeliveries(work, storage.TakeDeliveries{Group: v.group.ID, Owner: v.owner})
		return time.Time{}, err
	}
	return notBefore, err
}

// rested is when the destination may be sent to next, so that its rate limit and
// its Retry-After hold whichever process comes next.
func (v *visit) rested(notBefore time.Time) time.Time {
	if v.disabled { // then there is nothing to send, but deliveries to hold
		return notBefore
	}
	next := v.turns.Reserve()
	turn := v.now().Add(next.Delay())
	next.Cancel()
	for _, t := range []time.Time{turn, v.pauseUntil} {
		if t.After(v.now()) && t.After(notBefore) {
			notBefore = t
		}
	}
	return notBefore
}

// reopen reads the destination's settings, so that a change of them is heeded
// within destinationTTL.
func (v *visit) reopen(ctx context.Context) error {
	if v.now().Sub(v.openedAt).Abs() < destinationTTL {
		return nil
	}
	destination, secret, err := v.store.OpenDestination(ctx, v.group.ID)
	if err != nil {
		return err
	}
	v.to.Store(&opened{destination, secret})
	v.openedAt = v.now()
	perSecond := rate.Inf
	switch {
	case destination.RateLimit > 0:
		perSecond = rate.Limit(destination.RateLimit)
	case destination.Kind == storage.KindSlack:
		perSecond = slackPerSecond
	}
	if v.turns.Limit() != perSecond {
		v.turns.SetLimit(perSecond)
	}
	return nil
}

// pace is how many requests the destination may have under way: none while it
// rests, one while it fails. A Slack channel gets one, which also keeps the updates
// of one message in order. Where there is a rate limit, no more are begun than a
// second allows, so that none waits for its turn much longer than that.
func (v *visit) pace() pace {
	to := v.to.Load()
	limit := to.MaxInFlight
	if to.RateLimit > 0 {
		limit = min(limit, to.RateLimit)
	}
	switch {
	case v.disabled, v.now().Before(v.pauseUntil):
		return pace{}
	case to.Kind == storage.KindSlack:
		return pace{limit: 1, careful: true}
	case v.probing() && v.probes >= probeRound:
		return pace{}
	case v.probing():
		limit = 1
	case v.wasFailing && v.failures > 0:
		limit = min(limit, failingInFlight)
	}
	return pace{limit: max(1, limit)}
}

// learn keeps what an answer says of the destination: a success ends a row of
// failures, and more.
func (v *visit) learn(a attempted) {
	switch {
	case len(a.deliveries) > 0 && !onlyFailures(a.deliveries):
		v.failures = 0
	default:
		v.failures += len(a.deliveries)
		v.probes++
	}
	if a.pauseUntil.After(v.pauseUntil) {
		v.pauseUntil = a.pauseUntil
	}
	v.disabled = v.disabled || a.disable != ""
}

func (v *visit) probing() bool { return v.failures >= probeAfter }

// rest ends a round of probes, and is how long to let retries gather before the next.
func (v *visit) rest() time.Duration {
	v.probes = 0
	if v.probing() && v.pace().limit > 0 {
		return probeRest
	}
	return 0
}

func (v *visit) claim(ctx context.Context, n int, busy map[string]bool) ([]errand, time.Time, error) {
	if len(busy) == 0 && v.claimed { // after a rest, which a new visit would have begun
		v.openedAt = time.Time{}
	}
	v.claimed = true
	if err := v.reopen(ctx); err != nil {
		return nil, time.Time{}, err
	}
	take := storage.TakeDeliveries{Group: v.group.ID, Owner: v.owner, Max: n, Exclude: busy}
	due, err := v.store.DueDeliveries(ctx, take)
	if err != nil {
		return nil, time.Time{}, err
	}
	var progress []storage.DueProgress
	to := v.to.Load()
	if to.Bot && len(due) < n {
		take.Max = n - len(due)
		if progress, err = v.store.DueProgress(ctx, take); err != nil {
			return nil, time.Time{}, err
		}
	}
	errands := make([]errand, 0, n)
	for i := range due {
		errands = append(errands, errand{to: to, delivery: &due[i]})
	}
	for i := range progress {
		errands = append(errands, errand{to: to, progress: &progress[i]})
	}
	return errands, time.Time{}, nil
}

// mayDisable says whether the destination may have to be disabled: an answer says so,
// or it has accepted nothing for disableAfter.
func (v *visit) mayDisable(all attempted) bool {
	return all.disable != "" || v.failsTooLong(all, v.to.Load().FailingSince)
}

func (v *visit) failsTooLong(all attempted, since time.Time) bool {
	return onlyFailures(all.deliveries) && !since.IsZero() && v.now().Sub(since) >= v.disableAfter
}

// toDisable says why the destination is to be disabled now; "" if it is not, or is
// disabled already. What the visit has read of it may miss a success, so the row has
// the last word.
func (v *visit) toDisable(ctx context.Context, tx *storage.Store, all attempted) (string, error) {
	if !v.mayDisable(all) {
		return "", nil
	}
	row, _, err := tx.OpenDestination(ctx, v.group.ID)
	switch {
	case errors.Is(err, storage.ErrNotFound): // deleted
		return "", nil
	case err != nil || row.Status == storage.DestinationDisabled:
		return "", err
	case all.disable == "" && v.failsTooLong(all, row.FailingSince):
		return storage.DisabledFailing, nil
	}
	return all.disable, nil
}
