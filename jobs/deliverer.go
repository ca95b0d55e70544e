package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"oprelay/notifier"
	"oprelay/storage"
)

const (
	// probeAfter failures in a row, a destination is probed with one delivery at
	// a time until it accepts one.
	probeAfter = 5
	// slackPerSecond is Slack's limit for one channel:
	// https://docs.slack.dev/apis/web-api/rate-limits
	slackPerSecond = 1
	// destinationTTL is how long a destination's settings are kept in memory
	// while its deliveries are under way.
	destinationTTL = time.Second
	// credentialTTL is the same for a credential's secret.
	credentialTTL = 30 * time.Second
	// paceTTL is how long a destination's rate limiter is remembered.
	paceTTL = time.Minute
)

// Notifier sends one message once and reports what came of it. What went wrong
// is a *notifier.Error.
type Notifier interface {
	SendWebhook(ctx context.Context, w notifier.Webhook, m notifier.Message) (notifier.Outcome, error)
	SendSlackWebhook(ctx context.Context, url string, m notifier.Message) (notifier.Outcome, error)
	SendSlackBot(ctx context.Context, token, channel string, previous notifier.SlackRef, m notifier.Message) (notifier.Outcome, error)
}

// deliverer works through destinations.
type deliverer struct {
	store        *storage.Store
	notifier     Notifier
	schedule     RetrySchedule
	timeout      time.Duration // of one attempt, the answer's body included
	disableAfter time.Duration
	links        links
	now          func() time.Time
	log          *slog.Logger
	metrics      *metrics
	opened       *cache[opened]
	// paces outlive visits, so that coming back often does not outrun a limit.
	paces *cache[*rate.Limiter]
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
	to         opened
	pace       *rate.Limiter // nil if the destination has no rate limit
	failures   int           // in a row, up to now
	pauseUntil time.Time
}

// errand is what one request to a destination is for: a delivery, or (bot
// destinations only) an update of the Slack message of a watch that goes on.
type errand struct {
	delivery *storage.DueDelivery
	progress *storage.DueProgress
}

func (e errand) id() string {
	if e.delivery != nil {
		return e.delivery.ID
	}
	return e.progress.WatchID
}

// work sends what is due to the destination while the group's lease holds.
func (d *deliverer) work(stop, work context.Context, t turn) (notBefore time.Time, err error) {
	v := &visit{deliverer: d, turn: t}
	if err := v.reopen(work); err != nil {
		return time.Time{}, err
	}
	v.failures = v.to.ConsecutiveFailures
	if perSecond := v.perSecond(); perSecond > 0 {
		v.pace, _ = d.paces.get(fmt.Sprint(t.group.ID, " ", perSecond), func() (*rate.Limiter, error) {
			return rate.NewLimiter(rate.Limit(perSecond), 1), nil
		})
	}
	run := drain[errand, attempted]{
		claim: v.claim, limit: v.limit, id: errand.id, do: v.do, record: v.record,
	}
	return run.run(stop, work, t.woken, t.leased)
}

// reopen reads the destination's settings, so that a change of them is heeded
// within destinationTTL.
func (v *visit) reopen(ctx context.Context) error {
	to, err := v.opened.get(v.group.ID, func() (opened, error) {
		destination, secret, err := v.store.OpenDestination(ctx, v.group.ID)
		return opened{destination, secret}, err
	})
	if err == nil {
		v.to = to
	}
	return err
}

func (v *visit) perSecond() int {
	if v.to.RateLimit == 0 && v.to.Kind == storage.KindSlack {
		return slackPerSecond
	}
	return v.to.RateLimit
}

// limit is how many requests the destination may have under way. A Slack channel
// gets one, which also keeps the updates of one message in order. Where there is
// a rate limit, no more are taken than a second allows, so that none waits for
// its turn much longer than that.
func (v *visit) limit() int {
	switch {
	case v.failures >= probeAfter, v.to.Kind == storage.KindSlack:
		return 1
	case v.pace != nil:
		return min(v.to.MaxInFlight, v.to.RateLimit)
	}
	return v.to.MaxInFlight
}

func (v *visit) claim(ctx context.Context, n int, inFlight map[string]bool) ([]errand, time.Time, error) {
	if v.now().Before(v.pauseUntil) {
		return nil, v.pauseUntil, nil
	}
	if err := v.reopen(ctx); err != nil {
		return nil, time.Time{}, err
	}
	take := storage.TakeDeliveries{Group: v.group.ID, Owner: v.owner, Max: n, Exclude: inFlight}
	due, err := v.store.DueDeliveries(ctx, take)
	if err != nil {
		return nil, time.Time{}, err
	}
	errands := make([]errand, 0, len(due))
	for i := range due {
		errands = append(errands, errand{delivery: &due[i]})
	}
	if !v.to.Bot || len(errands) == n {
		return errands, time.Time{}, nil
	}
	take.Max = n - len(errands)
	progress, err := v.store.DueProgress(ctx, take)
	for i := range progress {
		errands = append(errands, errand{progress: &progress[i]})
	}
	return errands, time.Time{}, err
}

// do makes one attempt.
func (v *visit) do(ctx context.Context, e errand) (attempted, bool) {
	if v.pace != nil && v.pace.Wait(ctx) != nil {
		return attempted{}, false
	}
	if !v.leased.Load() {
		return attempted{}, false
	}
	sendCtx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	started, clock := v.now(), time.Now()
	outcome, err := v.send(sendCtx, e)
	if err != nil && ctx.Err() != nil {
		return attempted{}, false // the process ends: not the receiver's doing
	}
	took := time.Since(clock)
	v.metrics.attempted(v.to.Kind, err, took)
	if e.progress != nil {
		return judgeProgress(*e.progress, storage.SlackRef(outcome.Slack), started.Add(took), err), true
	}
	a := v.schedule.judge(*e.delivery, storage.Attempt{
		Number: e.delivery.AttemptsMade + 1, StartedAt: started, Duration: took,
		StatusCode: outcome.StatusCode, ResponseBody: outcome.Body,
	}, err, rand.Float64()) //nolint:gosec // jitter, not a secret
	a.delivery.Slack = storage.SlackRef(outcome.Slack)
	v.logAttempt(e.delivery, a)
	return a, true
}

func (v *visit) send(ctx context.Context, e errand) (notifier.Outcome, error) {
	m, previous := v.links.message(e)
	switch {
	case v.to.Bot:
		return v.notifier.SendSlackBot(ctx, string(v.to.BotToken), v.to.Channel, notifier.SlackRef(previous), m)
	case v.to.Kind == storage.KindSlack:
		return v.notifier.SendSlackWebhook(ctx, string(v.to.SlackURL), m)
	}
	secrets := make([]string, len(v.to.Signing))
	for i, s := range v.to.Signing {
		secrets[i] = string(s.Value)
	}
	return v.notifier.SendWebhook(ctx, notifier.Webhook{URL: v.to.URL, Headers: v.to.Headers, Secrets: secrets}, m)
}

// record writes the attempts and the next states, then disables the destination
// if an answer or a long row of failures says so.
func (v *visit) record(ctx context.Context, results []attempted) error {
	var deliveries []storage.AttemptResult
	var progress []storage.ProgressResult
	disable := ""
	for _, r := range results {
		if r.delivery != nil {
			deliveries = append(deliveries, *r.delivery)
		} else {
			progress = append(progress, *r.progress)
		}
		if r.disable != "" {
			disable = r.disable
		}
		if r.pauseUntil.After(v.pauseUntil) {
			v.pauseUntil = r.pauseUntil
		}
	}
	if v.onlyFailures(deliveries) && disable == "" && v.failingTooLong() {
		disable = storage.DisabledFailing
	}
	if err := v.store.Atomically(ctx, func(tx *storage.Store) error {
		return v.write(ctx, tx, deliveries, progress, disable)
	}); err != nil {
		return err
	}
	v.count(deliveries)
	if disable != "" {
		v.log.Warn("a destination is disabled; its deliveries are held until it is enabled",
			"destination_id", v.group.ID, "reason", disable)
	}
	return nil
}

// write is one transaction, for a delivery that is held by a destination that is
// not disabled would never be sent.
func (v *visit) write(ctx context.Context, tx *storage.Store, deliveries []storage.AttemptResult, progress []storage.ProgressResult, disable string) error {
	if len(deliveries) > 0 {
		if err := tx.RecordAttempts(ctx, v.group.ID, deliveries); err != nil {
			return err
		}
	}
	if len(progress) > 0 {
		if err := tx.RecordProgress(ctx, v.group.ID, progress); err != nil {
			return err
		}
	}
	if disable == "" {
		return nil
	}
	_, err := tx.DisableDestination(ctx, "", v.group.ID, disable)
	return err
}

func (v *visit) onlyFailures(results []storage.AttemptResult) bool {
	for _, r := range results {
		if r.Status == storage.DeliverySucceeded {
			return false
		}
	}
	return len(results) > 0
}

// count keeps the number of failures in a row.
func (v *visit) count(results []storage.AttemptResult) {
	if len(results) > 0 && !v.onlyFailures(results) {
		v.failures = 0
		return
	}
	v.failures += len(results)
}

func (v *visit) failingTooLong() bool {
	since := v.to.FailingSince
	return !since.IsZero() && v.now().Sub(since) >= v.disableAfter
}

func (v *visit) logAttempt(due *storage.DueDelivery, a attempted) {
	v.log.Debug("attempt", "delivery_id", due.ID, "event_id", due.EventID, "destination_id", v.group.ID,
		"attempt", a.delivery.Attempt.Number, "status", a.delivery.Status, "status_code", a.delivery.Attempt.StatusCode,
		"error", a.delivery.Attempt.Error, "next_attempt_at", a.delivery.NextAttemptAt)
	if a.delivery.Status == storage.DeliveryFailed {
		v.log.Warn("a delivery has used up its schedule; redeliver it when the receiver is well again",
			"delivery_id", due.ID, "event_id", due.EventID, "destination_id", v.group.ID,
			"attempt", a.delivery.Attempt.Number, "error", a.delivery.Attempt.Error)
	}
}
