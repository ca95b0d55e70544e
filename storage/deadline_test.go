package storage_test

import (
	"encoding/json"
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

// testPollOfBeforeTheDeadline: a poll that was answered before the deadline, and is recorded after
// a last one was asked for, leaves that to be made at once.
func testPollOfBeforeTheDeadline(w *world) {
	t := w.t
	watch := w.watch(t, "1")
	running := func(at time.Time) {
		t.Helper()
		for _, p := range w.take(t) {
			check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
				RowID: p.RowID, At: at, Status: storage.OperationRunning, Next: at.Add(time.Hour),
			}}))
		}
	}
	running(w.Steady())
	w.clock.advance(time.Hour)
	want(t, "watches past their deadline", must(w.LastPolls(t.Context(), 10))(t), 1)
	running(w.Steady().Add(-time.Millisecond))
	want(t, "expired by a poll of before", must(w.ExpireWatches(t.Context(), 10))(t), 0)
	running(w.Steady())
	want(t, "expired", must(w.ExpireWatches(t.Context(), 10))(t), 1)
	checkEnd(t, w, watch)
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

// testUnseenAtTheDeadline: where every poll that told anything was refused or did not
// find the operation, its deadline ends a watch as unobservable, for the last such
// reason. Whatever else happened, it expires.
func testUnseenAtTheDeadline(w *world) {
	t := w.t
	refused := storage.PollResult{RefusedSince: start, RefusedReason: storage.ReasonCredentialRejected, CredentialRefused: true}
	unknown := storage.PollResult{RefusedSince: start, RefusedReason: storage.ReasonNotFound}
	unclear := storage.PollResult{Problem: "HTTP 502"}
	running := storage.PollResult{Status: storage.OperationRunning}
	unclearLater := unknown // as it is recorded, with the refusal that it says nothing about
	unclearLater.Problem = "HTTP 502"
	type end struct{ status, reason string }
	expired := end{storage.WatchExpired, storage.ReasonDeadline}
	stories := map[string]struct {
		polls []storage.PollResult
		end   end
	}{
		"refused":               {[]storage.PollResult{refused, refused}, end{storage.WatchUnobservable, storage.ReasonCredentialRejected}},
		"unknown":               {[]storage.PollResult{unknown, unknown}, end{storage.WatchUnobservable, storage.ReasonNotFound}},
		"unknown, then refused": {[]storage.PollResult{unknown, refused}, end{storage.WatchUnobservable, storage.ReasonCredentialRejected}},
		"unknown, then unclear": {[]storage.PollResult{unknown, unclearLater}, end{storage.WatchUnobservable, storage.ReasonNotFound}},
		"seen, then unknown":    {[]storage.PollResult{running, unknown}, expired},
		"unknown, then seen":    {[]storage.PollResult{unknown, running}, expired},
		"unclear":               {[]storage.PollResult{unclear, unclear}, expired},
		"not polled":            {nil, expired},
	}
	watches := map[string]storage.Watch{}
	for name := range stories {
		watches[name] = w.watch(t, name)
	}
	record := func(round int, polls []storage.DuePoll) {
		t.Helper()
		for _, poll := range polls {
			if story := stories[poll.OperationID].polls; round < len(story) {
				r := story[round]
				r.RowID, r.At, r.Next = poll.RowID, w.Steady(), w.Steady().Add(time.Hour)
				check(t, w.RecordPolls(t.Context(), []storage.PollResult{r}))
			}
		}
	}
	record(0, w.take(t))
	w.clock.advance(time.Hour)
	want(t, "last polls", must(w.LastPolls(t.Context(), 10))(t), len(stories))
	record(1, w.take(t))
	want(t, "ended after their last poll", must(w.ExpireWatches(t.Context(), 10))(t), len(stories)-1)
	w.clock.advance(6 * time.Minute)
	want(t, "ended without one", must(w.ExpireWatches(t.Context(), 10))(t), 1)
	for name, story := range stories {
		got := w.reload(t, watches[name])
		want(t, name, got.Status, story.end.status)
		event := must(w.Event(t.Context(), w.tenant, got.EventID))(t)
		want(t, "event of "+name, event.Type, "operation."+story.end.status)
		var body struct {
			Data struct {
				Reason string `json:"reason"`
			} `json:"data"`
		}
		check(t, json.Unmarshal(event.Body, &body))
		want(t, "reason of "+name, body.Data.Reason, story.end.reason)
		checkEnd(t, w, got)
	}
}

// expire expires so many watches that nobody takes a last look at.
func (w *world) expire(t *testing.T, n int) {
	t.Helper()
	want(t, "last polls", must(w.LastPolls(t.Context(), 10))(t), n)
	w.clock.advance(6 * time.Minute)
	want(t, "expired", must(w.ExpireWatches(t.Context(), 10))(t), n)
}
