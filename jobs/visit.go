package jobs

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"oprelay/notifier"
	"oprelay/storage"
)

// do makes one attempt.
func (v *visit) do(ctx context.Context, e errand) (attempted, bool) {
	if v.turns.Wait(ctx) != nil || !v.leased.Load() {
		return attempted{}, false
	}
	sendCtx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	started, clock := v.now(), time.Now()
	span, traceparent := v.traces.attempt(e)
	outcome, err := v.send(sendCtx, e, traceparent)
	span.end(outcome, err)
	if err != nil && ctx.Err() != nil {
		return attempted{}, false // the process ends: not the receiver's doing
	}
	took := time.Since(clock)
	v.metrics.attempted(e, err, took)
	if e.progress != nil {
		return judgeProgress(*e.progress, storage.SlackRef(outcome.Slack), started.Add(took), err), true
	}
	a := v.schedule.judge(*e.delivery, storage.Attempt{
		Number: e.delivery.AttemptsMade + 1, StartedAt: started, Duration: took,
		StatusCode: outcome.StatusCode, ResponseBody: outcome.Body,
	}, err, rand.Float64())
	a.deliveries[0].Slack = storage.SlackRef(outcome.Slack)
	v.logAttempt(e.delivery, a.deliveries[0])
	return a, true
}

func (v *visit) send(ctx context.Context, e errand, traceparent string) (notifier.Outcome, error) {
	m, previous := v.links.message(e)
	m.Traceparent = traceparent
	switch {
	case e.to.Bot:
		return v.notifier.SendSlackBot(ctx, string(e.to.BotToken), e.to.Channel, notifier.SlackRef(previous), m)
	case e.to.Kind == storage.KindSlack:
		return v.notifier.SendSlackWebhook(ctx, string(e.to.SlackURL), m)
	}
	secrets := make([]string, len(e.to.Signing))
	for i, s := range e.to.Signing {
		secrets[i] = string(s.Value)
	}
	return v.notifier.SendWebhook(ctx, notifier.Webhook{URL: e.to.URL, Headers: e.to.Headers, Secrets: secrets}, m)
}

// record writes the attempts and the next states: together with those at other
// destinations, unless the destination may have to be disabled or is locked.
func (v *visit) record(ctx context.Context, results []attempted) error {
	var all attempted
	for _, r := range results {
		all.join(r)
	}
	if len(all.progress) == 0 && !v.mayDisable(all) {
		if err := v.joint.do(ctx, all.deliveries); !errors.Is(err, storage.ErrLocked) {
			return err
		}
	}
	return v.recordAlone(ctx, all)
}

// recordAlone also disables the destination if an answer or a long row of failures
// says so. It is one transaction: between two, what was answered with a 410 would be
// due again.
func (v *visit) recordAlone(ctx context.Context, all attempted) error {
	var disable string
	err := v.store.Atomically(ctx, func(tx *storage.Store) error {
		err := v.write(ctx, tx, all)
		if err != nil {
			return err
		}
		if disable, err = v.toDisable(ctx, tx, all); disable == "" {
			return err
		}
		_, err = tx.DisableDestination(ctx, "", v.group.ID, disable)
		return err
	})
	if err != nil {
		return err
	}
	v.metrics.recorded(storage.DeliverGroup, len(all.deliveries)+len(all.progress))
	if disable != "" {
		v.log.Warn("a destination is disabled; its deliveries are held until it is enabled",
			"destination_id", v.group.ID, "reason", disable)
	}
	return nil
}

func (v *visit) write(ctx context.Context, tx *storage.Store, all attempted) error {
	if len(all.deliveries) > 0 {
		if err := tx.RecordAttempts(ctx, all.deliveries); err != nil {
			return err
		}
	}
	if len(all.progress) > 0 {
		return tx.RecordProgress(ctx, v.group.ID, all.progress)
	}
	return nil
}

func onlyFailures(results []storage.AttemptResult) bool {
	for i := range results {
		if results[i].Status == storage.DeliverySucceeded {
			return false
		}
	}
	return len(results) > 0
}

func (v *visit) logAttempt(due *storage.DueDelivery, a storage.AttemptResult) {
	v.log.Debug("attempt", "delivery_id", due.ID, "event_id", due.EventID, "destination_id", v.group.ID,
		"attempt", a.Attempt.Number, "status", a.Status, "status_code", a.Attempt.StatusCode,
		"error", a.Attempt.Error, "next_attempt_at", v.store.Dated(a.NextAttemptAt))
	if a.Status == storage.DeliveryFailed {
		v.log.Warn("a delivery has used up its schedule; redeliver it when the receiver is well again",
			"delivery_id", due.ID, "event_id", due.EventID, "destination_id", v.group.ID,
			"attempt", a.Attempt.Number, "error", a.Attempt.Error)
	}
}
