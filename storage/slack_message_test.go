package storage_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/storage"
)

// progress is what a bot is to show now.
func (w *world) progress(t *testing.T, bot storage.Destination) []storage.DueProgress {
	t.Helper()
	w.lease(t, deliverGroup(bot))
	defer w.release(t, deliverGroup(bot))
	due := must(w.DueProgress(t.Context(), storage.TakeDeliveries{Group: bot.ID, Owner: "me", Max: 100}))(t)
	check(t, w.LoadProgress(t.Context(), due))
	return due
}

// show records that a message shows a state.
func (w *world) show(t *testing.T, bot storage.Destination, p storage.DueProgress) {
	t.Helper()
	check(t, w.RecordProgress(t.Context(), bot.ID, []storage.ProgressResult{{
		WatchID: p.WatchID, Slack: storage.SlackRef{Channel: "C1\x00", TS: "1.5"}, Revision: p.Revision,
	}}))
}

// only is the one message that is due.
func (w *world) only(t *testing.T, bot storage.Destination) storage.DueProgress {
	t.Helper()
	due := w.progress(t, bot)
	if len(due) != 1 {
		t.Fatalf("%d messages are due, want 1", len(due))
	}
	return due[0]
}

func (w *world) botWatch(t *testing.T, bot storage.Destination, operation string, events ...string) storage.Watch {
	t.Helper()
	request := w.request(operation)
	request.DestinationIDs = []string{bot.ID}
	if len(events) > 0 {
		request.Events = events
	}
	return must(w.CreateWatches(t.Context(), []storage.NewWatch{request}))(t)[0]
}

func testSlackProgress(w *world) {
	t := w.t
	bot := w.newBot(t)
	watch := w.botWatch(t, bot, "1")
	first := w.only(t, bot)
	want(t, "watch", first.Watch.ID, watch.ID)
	want(t, "no message yet", first.Slack, storage.SlackRef{})

	poll := w.take(t)[0]
	running := storage.PollResult{RowID: poll.RowID, At: start, Next: start.Add(time.Second), Status: storage.OperationRunning}
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{running}))
	w.show(t, bot, first) // while it was posted, the operation moved on
	second := w.only(t, bot)
	want(t, "message", second.Slack.TS, "1.5")
	want(t, "status", second.Watch.Operation.Status, storage.OperationRunning)
	w.show(t, bot, second)
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{running}))
	want(t, "due when nothing changed", len(w.progress(t, bot)), 0)

	running.Status = storage.OperationPending
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{running}))
	third := w.only(t, bot)
	failed := []storage.ProgressResult{{
		WatchID: watch.ID, Revision: third.Revision, NextAttemptAt: start.Add(time.Minute), Error: "no luck\x00",
	}}
	check(t, w.KeepProgressError(t.Context(), bot.ID, failed))
	check(t, w.RecordProgress(t.Context(), bot.ID, failed))
	want(t, "last error", must(w.Destination(t.Context(), w.tenant, bot.ID))(t).LastError, "no luck\uFFFD")
	want(t, "due while Slack is waited for", len(w.progress(t, bot)), 0)
	want(t, "group", w.groupDue(t, deliverGroup(bot)), start.Add(time.Minute))

	w.clock.advance(time.Minute)
	third = w.only(t, bot)
	w.end(t, poll, storage.WatchCompleted)
	want(t, "progress of an ended watch", len(w.progress(t, bot)), 0)
	check(t, w.RecordProgress(t.Context(), bot.ID, []storage.ProgressResult{{
		WatchID: watch.ID, Revision: third.Revision, NextAttemptAt: w.clock.Now(),
	}}))
	want(t, "progress that failed meanwhile", len(w.progress(t, bot)), 0)
	due := w.deliveries(t, bot)
	if len(due) != 1 || due[0].Watch == nil || due[0].Watch.Status != storage.WatchCompleted || due[0].Slack.TS != "1.5" {
		t.Fatalf("the delivery of the end: %+v", due)
	}
}

// testSlackProgressUntold: ends that make no delivery are shown as progress.
func testSlackProgressUntold(w *world) {
	t := w.t
	bot := w.newBot(t)
	canceled := w.botWatch(t, bot, "1")
	w.show(t, bot, w.only(t, bot))
	must(w.CancelWatch(t.Context(), w.tenant, canceled.ID))(t)
	last := w.only(t, bot)
	want(t, "status", last.Watch.Status, storage.WatchCanceled)
	w.show(t, bot, last)

	w.botWatch(t, bot, "2", storage.EventOperationFailed)
	w.show(t, bot, w.only(t, bot))
	w.end(t, w.take(t)[0], storage.WatchCompleted)
	last = w.only(t, bot)
	want(t, "status", last.Watch.Status, storage.WatchCompleted)
	w.show(t, bot, last)
	want(t, "deliveries", len(w.deliveries(t, bot)), 0)

	w.botWatch(t, bot, "3")
	must(w.DisableDestination(t.Context(), w.tenant, bot.ID, storage.DisabledByUser))(t)
	want(t, "while disabled", len(w.progress(t, bot)), 0)
	want(t, "group while disabled", w.groupDue(t, deliverGroup(bot)), time.Time{})
	must(w.EnableDestination(t.Context(), w.tenant, bot.ID))(t)
	posted := w.only(t, bot)
	w.end(t, w.take(t)[0], storage.WatchCompleted)
	due := w.deliveries(t, bot)[0]
	result := w.attempt(due, storage.DeliverySucceeded, 0)
	result.Slack = storage.SlackRef{Channel: "C1\x00", TS: "2.5\x00"} // Slack, or what stands before it, may lie
	check(t, w.RecordAttempts(t.Context(), []storage.AttemptResult{result}))
	must(w.Redeliver(t.Context(), w.tenant, due.ID))(t)
	want(t, "message of "+posted.WatchID, w.deliveries(t, bot)[0].Slack, storage.SlackRef{Channel: "C1\uFFFD", TS: "2.5\uFFFD"})
}

// testUrgentMessages: what failed is not kept waiting by any number that completed before.
func testUrgentMessages(w *world) {
	t, bot := w.t, w.newBot(w.t)
	for i, end := range []string{storage.WatchCompleted, storage.WatchCompleted, storage.WatchCompleted, storage.WatchFailed} {
		w.botWatch(t, bot, strconv.Itoa(i))
		w.clock.advance(time.Minute)
		for _, poll := range w.take(t) {
			w.end(t, poll, end)
		}
	}
	w.lease(t, deliverGroup(bot))
	due := func(exclude map[string]bool, limit int) (types []string, last storage.DueDelivery) {
		take := storage.TakeDeliveries{Group: bot.ID, Owner: "me", Max: limit, Exclude: exclude}
		for _, d := range must(w.DueMessages(t.Context(), take))(t) {
			types, last = append(types, strings.TrimPrefix(d.EventType, "operation.")), d
		}
		return types, last
	}
	all, failed := due(nil, 2)
	want(t, "due", strings.Join(all, " "), "completed completed failed")
	all, _ = due(nil, 4)
	want(t, "due once each", strings.Join(all, " "), "completed completed completed failed")
	all, _ = due(map[string]bool{failed.ID: true}, 2)
	want(t, "due beside one in flight", strings.Join(all, " "), "completed completed")
}
