package storage_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oprelay/storage"
)

// testCounters: each watch counts once when it is registered and once when it ends, by
// the process whose commit it was, and what is not committed does not count.
func testCounters(w *world) {
	t, ctx, other := w.t, w.t.Context(), w.open(w.t)
	want := storage.Counters{Ended: map[string]int64{
		storage.WatchCompleted: 0, storage.WatchFailed: 0, storage.WatchExpired: 0,
		storage.WatchUnobservable: 0, storage.WatchCanceled: 0,
	}, Deleted: map[string]int64{
		storage.DeletedWatches: 0, storage.DeletedOperations: 0, storage.DeletedEvents: 0, storage.DeletedDeliveries: 0,
		storage.DeletedAttempts: 0, storage.DeletedSlackMessages: 0,
	}}
	counted := func(what string, s *storage.Store) {
		t.Helper()
		if diff := cmp.Diff(want, s.Counters()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	counted("at first", w.Store)
	var ended []storage.EndedWatch
	w.SetOnEnded(func(some []storage.EndedWatch) { ended = append(ended, some...) })

	lost := errors.New("lost")
	canceled := w.watch(t, "canceled")
	want.Registered++
	wantError(t, "rolled back", w.Atomically(ctx, func(tx *storage.Store) error {
		_, created := tx.CreateWatches(ctx, []storage.NewWatch{w.request("never")})
		_, ended := tx.CancelWatch(ctx, w.tenant, canceled.ID)
		return errors.Join(created, ended, lost)
	}), lost)
	unknown := w.request("never")
	unknown.CredentialID = "credential_none"
	_, err := w.Register(ctx, []storage.NewWatch{unknown}, nil)
	wantError(t, "unknown credential", err, storage.ErrNotFound)
	counted("what was not committed", w.Store)

	for range 2 { // the second time it has ended
		must(w.CancelWatch(ctx, w.tenant, canceled.ID))(t)
	}
	want.Ended[storage.WatchCanceled]++
	must(w.Register(ctx, []storage.NewWatch{
		w.request("completed"), w.request("completed"), w.request("failed"), w.request("unobservable"),
	}, nil))(t)
	want.Registered += 4
	for _, poll := range w.take(t) {
		w.end(t, poll, poll.OperationID)
		w.end(t, poll, storage.WatchFailed) // late
	}
	want.Ended[storage.WatchCompleted], want.Ended[storage.WatchFailed], want.Ended[storage.WatchUnobservable] = 2, 1, 1
	w.watch(t, "expired")
	want.Registered++
	w.clock.advance(time.Hour)
	w.expire(t, 1)
	want.Ended[storage.WatchExpired]++
	w.watch(t, "rejected")
	want.Registered++
	must(w.RecordRefusals(ctx, []storage.PollResult{refusal(w.take(t)[0], w.clock.Now())}, 0))(t)
	check(t, w.EndRejected(ctx, w.credential.ID))
	want.Ended[storage.WatchUnobservable]++
	counted("every end", w.Store)
	checkTold(w, ended, want)
	want.Registered, want.Ended = 0, map[string]int64{}
	for status := range w.Counters().Ended {
		want.Ended[status] = 0
	}
	counted("another process", other)
}

// checkTold holds what was told of the ends against the watches themselves, and against
// the counts.
func checkTold(w *world, ended []storage.EndedWatch, want storage.Counters) {
	w.t.Helper()
	told := map[string]int64{}
	for _, e := range ended {
		told[e.Status]++
		shown := must(w.Watch(w.t.Context(), w.tenant, e.ID))(w.t)
		if diff := cmp.Diff(storage.EndedWatch{
			ID: shown.ID, OperationID: shown.Operation.ID, Status: shown.Status, Reason: e.Reason, Polls: shown.Polls,
			Took: shown.FinishedAt.Sub(shown.CreatedAt),
		}, e); diff != "" {
			w.t.Errorf("%s (-shown +told):\n%s", e.Status, diff)
		}
		if e.Status == storage.WatchExpired && e.Reason != storage.ReasonDeadline {
			w.t.Errorf("%s for the reason %q", e.Status, e.Reason)
		}
	}
	if diff := cmp.Diff(want.Ended, told); diff != "" {
		w.t.Errorf("told of ends (-want +got):\n%s", diff)
	}
}

// testStateCounts: budgets count while they pause, destinations until they are deleted.
func testStateCounts(w *world) {
	t, ctx := w.t, w.t.Context()
	counted := func(what string, parked, exhausted, enabled, failing, disabled int) {
		t.Helper()
		if diff := cmp.Diff(storage.StateCounts{
			Budgets: map[string]int{storage.BudgetParked: parked, storage.BudgetExhausted: exhausted, storage.BudgetScarce: 0},
			Destinations: map[string]int{
				storage.DestinationEnabled: enabled, storage.DestinationFailing: failing, storage.DestinationDisabled: disabled,
			},
		}, must(w.StateCounts(ctx, nil))(t)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	due := w.complete(t, "1")
	w.clock.advance(time.Hour)
	counted("all is well", 0, 0, 1, 0, 0)

	check(t, w.RecordAttempts(ctx, []storage.AttemptResult{{
		DeliveryID: due.ID, DestinationID: due.DestinationID, Status: storage.DeliveryPending, Attempt: storage.Attempt{StartedAt: w.Steady()},
	}}))
	gone := w.newWebhook(t, w.tenant, false)
	counted("one has failed", 0, 0, 1, 1, 0)
	must(w.DisableDestination(ctx, w.tenant, w.destination.ID, storage.DisabledFailing))(t)
	counted("it is disabled", 0, 0, 1, 0, 1)
	check(t, w.ForceDeleteDestination(ctx, w.tenant, gone.ID))
	counted("the other is deleted", 0, 0, 0, 0, 1)
	must(w.EnableDestination(ctx, w.tenant, w.destination.ID))(t)

	w.watch(t, "2")
	w.pause(t, w.Steady().Add(time.Minute))
	counted("spent", 0, 1, 1, 0, 0)
	w.clock.advance(time.Minute)
	counted("allowed again", 0, 0, 1, 0, 0)
	check(t, w.ParkBudget(ctx, w.credential.BudgetID, w.Steady().Add(time.Minute)))
	w.pause(t, w.Steady().Add(time.Minute))
	counted("locked out", 1, 0, 1, 0, 0)
	w.clock.advance(time.Minute)
	counted("no more", 0, 0, 1, 0, 0)
}

// testBudgetsLeft: of each budget in use it is told how much is left; of one whose
// requests are too long ago to count nothing is.
func testBudgetsLeft(w *world) {
	t, budget := w.t, storage.Budget{N: 10, Per: 10 * time.Minute}
	left := func(what string, shares ...float64) {
		t.Helper()
		got := must(w.StateCounts(t.Context(), func(string) storage.Budget { return budget }))(t).BudgetsLeft
		slices.Sort(got)
		want(t, what, fmt.Sprint(got), fmt.Sprint(shares))
	}
	left("nothing is polled")
	w.polledOnce(t, 20)
	want(t, "lease", must(w.LeaseGroup(t.Context(), w.pollGroup(), "me", 24*time.Hour))(t), true)
	take := func(n int) {
		t.Helper()
		_, err := w.TakePolls(t.Context(), storage.TakePolls{Group: w.credential.BudgetID, Owner: "me", Budget: budget, Max: n})
		check(t, err)
	}
	take(3)
	left("three of ten", 0.7)
	take(7)
	left("what is kept for first polls", 0.1)
	w.clock.advance(time.Hour)
	left("an hour later")
	take(1)
	check(t, w.HintBudget(t.Context(), w.credential.BudgetID, 2, w.Steady().Add(time.Minute)))
	left("the upstream says two", 0.2)
	check(t, w.ParkBudget(t.Context(), w.credential.BudgetID, w.Steady().Add(time.Hour)))
	check(t, w.ParkBudget(t.Context(), "another", w.Steady().Add(time.Minute)))
	left("locked out", 0, 0)
	w.clock.advance(time.Minute)
	left("one is", 0)
	want(t, "budgets left, without a budget", len(must(w.StateCounts(t.Context(), nil))(t).BudgetsLeft), 0)
}

// pause gives the budget's lease back until then.
func (w *world) pause(t *testing.T, until time.Time) {
	t.Helper()
	w.lease(t, w.pollGroup())
	must(w.ReleaseGroup(t.Context(), w.pollGroup(), "me", storage.Pause{Until: until}))(t)
}
