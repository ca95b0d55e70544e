package storage_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"oprelay/storage"
)

// exhaust has the deliveries that are due at a destination fail for good, in one transaction.
func (w *world) exhaust(t *testing.T, d storage.Destination) int {
	t.Helper()
	var results []storage.AttemptResult
	for _, due := range w.deliveries(t, d) {
		results = append(results, w.attempt(due, storage.DeliveryFailed, 0))
	}
	w.record(t, results...)
	return len(results)
}

// toldFailed are the events delivery.failed of the tenant, by the destination, count and since.
func (w *world) toldFailed(t *testing.T) (told []string) {
	t.Helper()
	for _, e := range w.feed(t, w.tenant) {
		if e.Type != storage.EventDeliveryFailed {
			continue
		}
		var body struct {
			Data struct {
				ID        string    `json:"destination_id"`
				Count     int       `json:"count"`
				Since     time.Time `json:"since"`
				LastError string    `json:"last_error"`
			} `json:"data"`
		}
		check(t, json.Unmarshal(e.Body, &body))
		told = append(told, fmt.Sprint(body.Data.ID, " ", body.Data.Count, " ", body.Data.Since.Sub(start), " ", body.Data.LastError))
	}
	return told
}

// gathered is how long the first failing waits for others.
const gathered = 5 * time.Second

// testFailedTold: the failing of deliveries is told to the other alerts destinations, together with
// what fails a moment later, and then once an hour.
func testFailedTold(w *world) {
	t, ctx := w.t, w.t.Context()
	alerts := w.newWebhook(t, w.tenant, true)
	yes := true
	must(w.UpdateDestination(ctx, w.tenant, w.destination.ID, storage.DestinationPatch{Alerts: &yes}))(t)
	id := w.destination.ID
	told := func(when string, want []string) {
		t.Helper()
		if got := w.toldFailed(t); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: told %q, want %q", when, got, want)
		}
	}

	tell := func(when string, n int) {
		t.Helper()
		w.clock.advance(gathered)
		want(t, when, must(w.TellFailed(ctx, 10))(t), n)
	}

	w.complete(t, "1")
	w.clock.advance(time.Minute)
	want(t, "exhausted", w.exhaust(t, w.destination), 1)
	want(t, "told at once", must(w.TellFailed(ctx, 10))(t), 0)
	w.complete(t, "2")
	want(t, "exhausted", w.exhaust(t, w.destination), 1)
	tell("told of both", 1)
	events := []string{id + " 2 0s HTTP 500"}
	told("a moment later", events)
	want(t, "to the one that fails", len(w.deliveries(t, w.destination)), 0)
	due := w.deliveries(t, alerts)
	want(t, "to the other", len(due), 1)
	want(t, "body", string(due[0].Body), `{"type":"delivery.failed","timestamp":"2026-11-23T10:01:05.123456Z",`+
		`"data":{"destination_id":"`+id+`","name":"hook","count":2,"since":"2026-11-23T10:00:00.123456Z","last_error":"HTTP 500"}}`)

	for _, operation := range []string{"3", "4"} {
		w.complete(t, operation)
		w.exhaust(t, w.destination)
	}
	want(t, "told early", must(w.TellFailed(ctx, 10))(t), 0)
	told("within the hour", events)
	w.clock.advance(time.Hour)
	want(t, "told late", must(w.TellFailed(ctx, 10))(t), 1)
	want(t, "told again", must(w.TellFailed(ctx, 10))(t), 0)
	events = append(events, id+" 2 1m5s HTTP 500")
	told("after the hour", events)
	w.clock.advance(time.Hour)
	want(t, "nothing to tell", must(w.TellFailed(ctx, 10))(t), 0)
	w.complete(t, "5")
	w.exhaust(t, w.destination)
	tell("told of the next", 1)
	events = append(events, id+" 1 2h1m5s HTTP 500")
	told("the next", events)

	// The failing of these is not told, or two alerts destinations that fail would tell of each
	// other for ever; that of other alerts is.
	want(t, "alerts exhausted", w.exhaust(t, alerts), 3)
	tell("told of alerts", 0)
	told("of the alerts", events)
	must(w.DisableDestination(ctx, w.tenant, w.newWebhook(t, w.tenant, false).ID, storage.DisabledGone))(t)
	w.exhaust(t, alerts)
	tell("told of an alert", 1)
	told("of an alert", append(events, alerts.ID+" 1 2h1m15s HTTP 500"))
}

// testFailedNotTold: what is canceled or pending after its attempt has not failed.
func testFailedNotTold(w *world) {
	t, ctx := w.t, w.t.Context()
	w.complete(t, "1")
	due := w.deliveries(t, w.destination)[0]
	w.record(t, w.attempt(due, storage.DeliveryPending, time.Minute))
	w.record(t, w.attempt(due, storage.DeliveryFailed, 0)) // late: another attempt was recorded
	w.complete(t, "2")
	due = w.deliveries(t, w.destination)[0]
	check(t, w.ForceDeleteDestination(ctx, w.tenant, w.destination.ID))
	w.record(t, w.attempt(due, storage.DeliveryFailed, 0))
	want(t, "told", len(w.toldFailed(t)), 0)
	w.clock.advance(2 * time.Hour)
	want(t, "told late", must(w.TellFailed(ctx, 10))(t), 0)
}

// testDigestRecorded: what a digest told of has no message, and gets none before its end. The
// attempts of one request are one failure.
func testDigestRecorded(w *world) {
	t, ctx := w.t, w.t.Context()
	bot := w.newBot(t)
	told, moving := w.botWatch(t, bot, "1"), w.botWatch(t, bot, "2")
	due := w.progress(t, bot)
	want(t, "due", len(due), 2)
	want(t, "registered", due[0].CreatedAt, told.CreatedAt)
	polls := w.take(t)
	moved := func(status string) {
		for _, poll := range polls {
			check(t, w.RecordPolls(ctx, []storage.PollResult{{RowID: poll.RowID, At: start, Next: start.Add(time.Second), Status: status}}))
		}
	}
	moved(storage.OperationPending) // while the digest was posted
	results := make([]storage.ProgressResult, len(due))
	for i, p := range due {
		results[i] = storage.ProgressResult{WatchID: p.WatchID, Revision: p.Revision}
	}
	check(t, w.RecordProgress(ctx, bot.ID, results))
	want(t, "moved meanwhile", len(w.progress(t, bot)), 0)
	moved(storage.OperationRunning)
	want(t, "moved on", len(w.progress(t, bot)), 0)
	must(w.CancelWatch(ctx, w.tenant, told.ID))(t)
	want(t, "canceled", len(w.progress(t, bot)), 0)

	w.botWatch(t, bot, "3")
	w.clock.advance(time.Minute)
	for _, poll := range w.take(t) {
		w.end(t, poll, storage.WatchCompleted)
	}
	ends := w.deliveries(t, bot)
	want(t, "ends", len(ends), 2)
	failed := []storage.AttemptResult{w.attempt(ends[0], storage.DeliveryPending, time.Second), w.attempt(ends[1], storage.DeliveryPending, time.Second)}
	failed[1].Shared = true
	w.record(t, failed...)
	want(t, "failures", must(w.Destination(ctx, w.tenant, bot.ID))(t).ConsecutiveFailures, 1)
	w.clock.advance(time.Second)
	for _, d := range w.deliveries(t, bot) {
		want(t, "attempts", d.AttemptsMade, 1)
		want(t, "message", d.Slack, storage.SlackRef{})
		result := w.attempt(d, storage.DeliverySucceeded, 0)
		if d.WatchID == moving.ID { // by itself
			result.Slack = storage.SlackRef{Channel: "C1", TS: "9.1"}
		}
		w.record(t, result)
		must(w.Redeliver(ctx, w.tenant, d.ID))(t)
	}
	for _, d := range w.deliveries(t, bot) {
		want(t, "message", d.Slack.TS != "", d.WatchID == moving.ID)
	}
}
