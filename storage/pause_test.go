package storage_test

import (
	"time"

	"oprelay/storage"
)

// asks is the result of an attempt that a receiver answered with a pause.
func (w *world) asks(d storage.DueDelivery, pause time.Duration) storage.AttemptResult {
	r := w.attempt(d, storage.DeliveryPending, pause)
	r.PauseUntil, r.Postponed = r.NextAttemptAt, pause
	return r
}

// testPause: a receiver has asked for a pause, which is recorded with the attempt. From
// then on the group is not worked on and nothing of it shows an earlier time, whoever
// records, dies, or makes work for it meanwhile.
func testPause(w *world) {
	t := w.t
	refused, waiting := w.complete(t, "1").ID, w.complete(t, "2").ID
	due := w.deliveries(t, w.destination)
	end := start.Add(time.Hour)
	w.record(t, w.asks(due[0], time.Hour))
	w.record(t, w.asks(due[0], 2*time.Hour)) // late: another attempt was recorded
	w.record(t, w.asks(due[1], time.Minute))
	want(t, "paused until", w.health(t).PausedUntil, end)
	for _, id := range []string{refused, waiting} {
		want(t, "next attempt", w.delivery(t, id).NextAttemptAt, end)
	}

	group := deliverGroup(w.destination)
	w.lease(t, group) // of one that dies without giving it back
	w.clock.advance(time.Hour - time.Minute)
	want(t, "another's lease", must(w.LeaseGroup(t.Context(), group, "next", time.Minute))(t), false)
	want(t, "next", w.release(t, group), end)
	later := w.complete(t, "3").ID
	want(t, "leased for what is new", must(w.LeaseGroup(t.Context(), group, "next", time.Minute))(t), false)
	want(t, "groups that are due", len(must(w.DueGroups(t.Context(), 10))(t)), 1) // the polls'
	want(t, "next attempt of what is new", w.delivery(t, later).NextAttemptAt, end)

	w.clock.advance(time.Minute)
	due = w.deliveries(t, w.destination)
	want(t, "due after the pause", len(due), 3)
	for _, d := range due {
		want(t, "step", d.Step, 0)
		switch d.ID {
		case refused:
			want(t, "postponed", d.Postponed, time.Hour)
			want(t, "attempts", d.AttemptsMade, 1)
			w.record(t, w.asks(d, time.Hour))
		case waiting:
			w.record(t, w.attempt(d, storage.DeliveryPending, time.Minute))
		case later:
			w.record(t, w.attempt(d, storage.DeliverySucceeded, 0))
		}
	}
	want(t, "accepted", w.delivery(t, later).NextAttemptAt, time.Time{})
	w.clock.advance(time.Hour)
	due = w.deliveries(t, w.destination)
	want(t, "put off twice", due[0].Postponed, 2*time.Hour)
	want(t, "its step", due[0].Step, 0)
	want(t, "step of what has failed", due[1].Step, 1)
	want(t, "and what it was put off", due[1].Postponed, time.Minute)
}

// testPauseEnds: what a receiver has asked for is forgotten with a schedule that begins
// anew, and with a destination that is enabled anew.
func testPauseEnds(w *world) {
	t := w.t
	id := w.complete(t, "1").ID
	w.record(t, w.asks(w.deliveries(t, w.destination)[0], time.Hour))
	again := must(w.Redeliver(t.Context(), w.tenant, id))(t)
	want(t, "redelivered within the pause", again.NextAttemptAt, start.Add(time.Hour))

	must(w.DisableDestination(t.Context(), w.tenant, w.destination.ID, storage.DisabledByUser))(t)
	want(t, "held within the pause", w.delivery(t, id).Status, storage.DeliveryHeld)
	want(t, "next attempt while held", w.delivery(t, id).NextAttemptAt, time.Time{})
	must(w.EnableDestination(t.Context(), w.tenant, w.destination.ID))(t)
	want(t, "paused until", w.health(t).PausedUntil, time.Time{})

	w.record(t, w.asks(w.deliveries(t, w.destination)[0], time.Hour))
	name, url := "another", "https://example.com/elsewhere"
	must(w.UpdateDestination(t.Context(), w.tenant, w.destination.ID, storage.DestinationPatch{Name: &name}))(t)
	want(t, "paused when named anew", w.health(t).PausedUntil, start.Add(time.Hour))
	must(w.UpdateDestination(t.Context(), w.tenant, w.destination.ID, storage.DestinationPatch{URL: &url}))(t)
	want(t, "paused when elsewhere", w.health(t).PausedUntil, time.Time{})
	must(w.Redeliver(t.Context(), w.tenant, id))(t)

	due := w.deliveries(t, w.destination)
	want(t, "due when elsewhere", len(due), 1)
	want(t, "postponed", due[0].Postponed, 0)

	w.record(t, w.asks(due[0], time.Hour))
	must(w.Recover(t.Context(), storage.Recovery{TenantID: w.tenant, DestinationID: w.destination.ID, Since: start}, nil))(t)
	w.clock.advance(time.Hour)
	due = w.deliveries(t, w.destination)
	want(t, "a schedule that goes on", due[0].Postponed, time.Hour)
	w.record(t, w.attempt(due[0], storage.DeliveryFailed, 0))
	must(w.Recover(t.Context(), storage.Recovery{TenantID: w.tenant, DestinationID: w.destination.ID, Since: start}, nil))(t)
	want(t, "a schedule that begins anew", w.deliveries(t, w.destination)[0].Postponed, 0)
}

// testAnswerOfBefore: what was under way when a destination got another address, or was
// enabled, neither pauses nor fails what it is now.
func testAnswerOfBefore(w *world) {
	t := w.t
	w.complete(t, "1")
	due := w.deliveries(t, w.destination)[0]
	w.clock.advance(time.Second)
	url := "https://example.com/elsewhere"
	must(w.UpdateDestination(t.Context(), w.tenant, w.destination.ID, storage.DestinationPatch{URL: &url}))(t)
	late := w.asks(due, time.Hour)
	late.Attempt.StartedAt = start
	w.record(t, late)
	want(t, "paused by the old address", w.health(t).PausedUntil, time.Time{})
	want(t, "failures of the old address", w.health(t).ConsecutiveFailures, 0)

	due = w.deliveries(t, w.destination)[0]
	asked := w.asks(due, time.Hour)
	asked.Attempt.StartedAt = w.clock.Now()
	w.record(t, asked)
	want(t, "paused by the new one", w.health(t).PausedUntil, asked.PauseUntil)
	w.clock.advance(time.Second)
	must(w.EnableDestination(t.Context(), w.tenant, w.destination.ID))(t)
	want(t, "paused when enabled anew", w.health(t).PausedUntil, time.Time{})
}

// testPauseOfSlack: Slack asks for a pause when a message is brought up to date.
func testPauseOfSlack(w *world) {
	t := w.t
	bot := w.newBot(t)
	w.botWatch(t, bot, "1")
	due := w.only(t, bot)
	for _, pause := range []time.Duration{time.Hour, time.Minute} {
		until := start.Add(pause)
		check(t, w.RecordProgress(t.Context(), bot.ID, []storage.ProgressResult{
			{WatchID: due.WatchID, Revision: due.Revision, NextAttemptAt: until, PauseUntil: until},
		}))
	}
	want(t, "paused until", must(w.Destination(t.Context(), w.tenant, bot.ID))(t).PausedUntil, start.Add(time.Hour))
	want(t, "group", w.groupDue(t, deliverGroup(bot)), start.Add(time.Hour))
	want(t, "another's pause", w.health(t).PausedUntil, time.Time{})
}
