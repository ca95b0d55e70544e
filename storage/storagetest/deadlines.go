package storagetest

import (
	"testing"
	"time"

	"oprelay/storage"
)

// testDeadlines: a watch expires at its own time, whatever the clock is set to, and
// not before somebody has taken a last look at its operation, or tried to for long.
func testDeadlines(w *world) {
	t := w.t
	ended, runs, alone := w.watch(t, "ended"), w.watch(t, "runs"), w.watch(t, "alone")
	for _, poll := range w.take(t) {
		check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
			RowID: poll.RowID, At: w.Steady(), Status: storage.OperationRunning, Next: w.Steady().Add(24 * time.Hour),
		}}))
	}
	w.clock.set(2 * time.Hour)
	want(t, "last polls, because the clock was set", must(w.LastPolls(t.Context(), 10))(t), 0)
	want(t, "expired, because the clock was set", must(w.ExpireWatches(t.Context(), 10))(t), 0)
	w.clock.set(-3 * time.Hour)

	w.clock.advance(time.Hour)
	want(t, "expired without a last poll", must(w.ExpireWatches(t.Context(), 10))(t), 0)
	want(t, "last polls", must(w.LastPolls(t.Context(), 10))(t), 3)
	want(t, "last polls again", must(w.LastPolls(t.Context(), 10))(t), 0)
	polls := w.take(t)
	want(t, "polls due at the deadline", len(polls), 3)
	for _, poll := range polls {
		result := storage.PollResult{RowID: poll.RowID, At: w.Steady(), Status: storage.OperationRunning, Next: w.Steady().Add(time.Hour)}
		switch poll.OperationID {
		case "alone":
			continue // nobody can ask
		case "ended":
			result.Status, result.End = storage.OperationCompleted, storage.WatchCompleted
		}
		check(t, w.RecordPolls(t.Context(), []storage.PollResult{result}))
	}
	want(t, "ended in time", w.reload(t, ended).Status, storage.WatchCompleted)
	want(t, "expired", must(w.ExpireWatches(t.Context(), 10))(t), 1)
	want(t, "still runs", w.reload(t, runs).Status, storage.WatchExpired)
	w.clock.advance(6*time.Minute - time.Second)
	want(t, "expired while a last poll may come", must(w.ExpireWatches(t.Context(), 10))(t), 0)
	w.clock.advance(time.Second)
	want(t, "expired without one", must(w.ExpireWatches(t.Context(), 10))(t), 1)
	want(t, "not polled", w.reload(t, alone).Status, storage.WatchExpired)
}

// testSharedDeadlines: watches of one operation end each at its own deadline, those
// whose deadline has passed with the one last poll, and those whose operation was
// polled since then without another.
func testSharedDeadlines(w *world) {
	t := w.t
	hour, day, late := w.request("1"), w.request("1"), w.request("2")
	day.Timeout = 24 * time.Hour
	watches := must(w.CreateWatches(t.Context(), []storage.NewWatch{hour, hour, day, late}))(t)
	running := func(p storage.DuePoll, next time.Duration) {
		t.Helper()
		check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
			RowID: p.RowID, At: w.Steady(), Status: storage.OperationRunning, Next: w.Steady().Add(next),
		}}))
	}
	for _, p := range w.take(t) {
		running(p, 48*time.Hour)
	}
	w.clock.advance(time.Hour)
	want(t, "watches past their deadline", must(w.LastPolls(t.Context(), 10))(t), 3)
	want(t, "expired at once", must(w.ExpireWatches(t.Context(), 10))(t), 0)
	for _, p := range w.take(t) {
		running(p, 23*time.Hour) // which is when the last deadline passes
	}
	want(t, "expired after their last poll", must(w.ExpireWatches(t.Context(), 10))(t), 3)
	want(t, "one that has time", w.reload(t, watches[2]).Status, storage.WatchWatching)
	w.clock.advance(23 * time.Hour)
	for _, p := range w.take(t) {
		running(p, time.Hour)
	}
	want(t, "watches past their deadline, polled since", must(w.LastPolls(t.Context(), 10))(t), 1)
	want(t, "further polls", len(w.take(t)), 0)
	want(t, "expired without another poll", must(w.ExpireWatches(t.Context(), 10))(t), 1)
	for _, watch := range watches {
		checkEnd(t, w, watch)
	}
}

// expire expires so many watches that nobody takes a last look at.
func (w *world) expire(t *testing.T, n int) {
	t.Helper()
	want(t, "last polls", must(w.LastPolls(t.Context(), 10))(t), n)
	w.clock.advance(6 * time.Minute)
	want(t, "expired", must(w.ExpireWatches(t.Context(), 10))(t), n)
}
