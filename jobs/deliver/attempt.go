package deliver

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"oprelay/notifier"
	"oprelay/storage"
)

// Do implements pipeline.Work: it makes one attempt. What has waited for a place for long is
// claimed anew, for it may have changed.
func (r *run) Do(ctx context.Context, s send) (a attempted, ok bool) {
	if r.turns.Wait(r.stop) != nil {
		return attempted{}, false
	}
	since := time.Now()
	place := r.unrecorded.take(r.stop)
	if place == nil {
		return attempted{}, false
	}
	if !r.paused.Load() && time.Since(since) < destinationTTL {
		a, ok = r.attempt(ctx, s)
	}
	place.answered()
	if !ok {
		place.recorded()
	}
	a.place = place
	return a, ok
}

func (r *run) attempt(ctx context.Context, s send) (attempted, bool) {
	sendCtx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	started, clock := r.now(), time.Now()
	span, traceparent := startSpan(r.tracer, s)
	outcome, err := r.post(sendCtx, s, traceparent)
	endSpan(span, outcome, err)
	if err != nil && ctx.Err() != nil {
		return attempted{}, false // the process ends: not the receiver's doing
	}
	if r.couldNotSend(s, err, time.Since(clock)) {
		return attempted{}, false
	}
	took := time.Since(clock)
	r.metrics.attempted(s, err, took)
	accepting := r.accepted.Load() || s.to.FailingSince.IsZero()
	t := tried{err: err, accepting: accepting, random: rand.Float64(), attempt: storage.Attempt{
		StartedAt: started, Duration: took, StatusCode: outcome.StatusCode, ResponseBody: outcome.Body,
	}}
	return r.judgeAll(s, t, storage.SlackRef(outcome.Slack)), true
}

// judgeAll decides what follows for all that the message told of. What a digest told of has no
// message of its own.
func (r *run) judgeAll(s send, t tried, ref storage.SlackRef) attempted {
	if s.digest() {
		ref = storage.SlackRef{}
	}
	var all attempted
	for i, due := range s.deliveries {
		t.attempt.Number = due.AttemptsMade + 1
		a := r.schedule.judge(due, t)
		result := &a.deliveries[0]
		a.fault, a.began = result.Attempt.Error, t.attempt.StartedAt
		result.Slack, result.Shared = ref, i > 0
		r.logAttempt(&s.deliveries[i], *result)
		all.join(a)
	}
	for _, due := range s.progress {
		a := judgeProgress(due, ref, t)
		r.explainProgress(&a, t.err)
		a.began, a.progress[0].Began = t.attempt.StartedAt, t.attempt.StartedAt
		all.join(a)
	}
	all.began, all.digest = t.attempt.StartedAt, s.digest()
	return all
}

// explainProgress keeps why a Slack message could not be brought up to date.
func (r *run) explainProgress(a *attempted, err error) {
	if err == nil {
		return
	}
	p := &a.progress[0]
	a.fault, p.Error = err.Error(), err.Error()
	r.log.Debug("a Slack message is not up to date", "watch_id", p.WatchID, "destination_id", r.Group,
		"error", a.fault, "next_attempt_at", r.store.Dated(p.NextAttemptAt))
}

func (r *run) post(ctx context.Context, s send, traceparent string) (notifier.Outcome, error) {
	m, previous := r.links.message(s)
	m.Traceparent = traceparent
	switch {
	case s.to.Bot:
		return r.notifier.SendSlackBot(ctx, string(s.to.BotToken), s.to.Channel, notifier.SlackRef(previous), m)
	case s.to.Kind == storage.KindSlack:
		return r.notifier.SendSlackWebhook(ctx, string(s.to.SlackURL), m)
	}
	secrets := make([]string, len(s.to.Signing))
	for i, secret := range s.to.Signing {
		secrets[i] = string(secret.Value)
	}
	return r.notifier.SendWebhook(ctx, notifier.Webhook{URL: s.to.URL, Headers: s.to.Headers, Secrets: secrets}, m)
}

// logAttempt tells of every attempt that was not accepted, as far as the log's limit goes.
func (r *run) logAttempt(due *storage.DueDelivery, a storage.AttemptResult) {
	about := []any{
		"delivery_id", due.ID, "event_id", due.EventID, "destination_id", r.Group,
		"attempt", a.Attempt.Number, "duration", a.Attempt.Duration,
	}
	kind := "no answer"
	if a.Attempt.StatusCode != 0 {
		kind = strconv.Itoa(a.Attempt.StatusCode)
		about = append(about, "status_code", a.Attempt.StatusCode)
	}
	if a.Status == storage.DeliverySucceeded {
		r.log.Debug("an attempt was accepted", about...)
		return
	}
	if !r.failureLog.Pass(kind) {
		return
	}
	about = append(about, "error", a.Attempt.Error)
	switch a.Status {
	case storage.DeliveryFailed:
		r.log.Warn("a delivery has used up its schedule; redeliver it when the receiver is well again", about...)
	case storage.DeliveryPending:
		r.log.Warn("an attempt was not accepted; the next is planned", append(about, "next_attempt_at", r.store.Dated(a.NextAttemptAt))...)
	default:
		r.log.Warn("an attempt was not accepted", about...)
	}
}
