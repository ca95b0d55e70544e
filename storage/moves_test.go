package storage_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"oprelay/storage"
)

// statuses counts the deliveries of the world's destination by status.
func (w *world) statuses(t *testing.T) string {
	t.Helper()
	counts := map[string]int{}
	for _, d := range must(w.Deliveries(t.Context(), storage.DeliveryFilter{
		TenantID: w.tenant, DestinationID: w.destination.ID,
	}, storage.Page{Limit: 100}))(t).Data {
		counts[d.Status]++
	}
	return fmt.Sprint(counts)
}

// run is what a worker does at a destination that is due, and how much it gets to send.
func (w *world) run(t *testing.T) int {
	t.Helper()
	group := deliverGroup(w.destination)
	if !slices.Contains(must(w.DueGroups(t.Context(), 10))(t), group) {
		t.Fatalf("with %s it is not due", w.statuses(t))
	}
	return len(w.deliveries(t, w.destination))
}

// testMovedByTheChunk: however much waits at a destination, a change of its state is
// a short transaction; the runs that follow move the others.
func testMovedByTheChunk(w *world) {
	t := w.t
	w.Store = w.moving(t, 2)
	for i := range 5 {
		w.complete(t, strconv.Itoa(i))
	}
	w.record(t, w.attempt(w.deliveries(t, w.destination)[0], storage.DeliveryPending, 23*time.Hour))
	id, group := w.destination.ID, deliverGroup(w.destination)
	after := func(what string, sent int, statuses string) {
		t.Helper()
		want(t, what+": to send", w.run(t), sent)
		want(t, what, w.statuses(t), statuses)
	}
	must(w.DisableDestination(t.Context(), w.tenant, id, storage.DisabledByUser))(t)
	want(t, "disabled", w.statuses(t), "map[held:2 pending:3]")
	after("disabled, one run later", 0, "map[held:4 pending:1]") // what is due in a day waits no longer
	after("disabled, two runs later", 0, "map[held:5]")
	want(t, "next, when all is held", w.groupDue(t, group), time.Time{})

	must(w.EnableDestination(t.Context(), w.tenant, id))(t)
	want(t, "enabled", w.statuses(t), "map[held:3 pending:2]")
	after("enabled, one run later", 4, "map[held:1 pending:4]")
	must(w.DisableDestination(t.Context(), w.tenant, id, storage.DisabledByUser))(t)
	want(t, "disabled again", w.statuses(t), "map[held:3 pending:2]")
	must(w.EnableDestination(t.Context(), w.tenant, id))(t)
	want(t, "enabled again", w.statuses(t), "map[held:1 pending:4]")
	after("enabled again, one run later", 5, "map[pending:5]")

	must(w.DisableDestination(t.Context(), w.tenant, id, storage.DisabledByUser))(t)
	check(t, w.ForceDeleteDestination(t.Context(), w.tenant, id))
	want(t, "deleted", w.statuses(t), "map[canceled:2 held:2 pending:1]")
	after("deleted, one run later", 0, "map[canceled:4 held:1]")
	after("deleted, two runs later", 0, "map[canceled:5]")
	want(t, "next, when all is canceled", w.groupDue(t, group), time.Time{})
}

// testRecoveredByTheChunk: a recovery that fails has redelivered what it came to, and
// may be repeated; each delivery is counted once.
func testRecoveredByTheChunk(w *world) {
	t := w.t
	w.Store = w.moving(t, 2)
	for i, status := range []string{"pending", "failed", "failed", "succeeded", "failed", "failed"} {
		w.complete(t, strconv.Itoa(i))
		w.record(t, w.attempt(w.deliveries(t, w.destination)[0], status, time.Hour))
	}
	failure, told := errors.New("no"), 0
	recovery := storage.Recovery{TenantID: w.tenant, DestinationID: w.destination.ID, Since: start}
	_, err := w.Recover(t.Context(), recovery, func(_ *storage.Store, count int, last bool) error {
		if told = count; last {
			return failure
		}
		return nil
	})
	wantError(t, "recover", err, failure)
	want(t, "told", told, 5)
	want(t, "after a failure in the last transaction", w.statuses(t), "map[failed:1 pending:4 succeeded:1]")
	want(t, "recovered", must(w.Recover(t.Context(), recovery, nil))(t), 5)
	want(t, "after it was repeated", w.statuses(t), "map[pending:5 succeeded:1]")
	want(t, "to send", w.run(t), 5)
}

// testMovedMeanwhile: a delivery is written by the state of its destination that was read. If that changes before the commit, the next run puts it right.
func testMovedMeanwhile(w *world) {
	if w.Backend() == "sqlite" {
		return // has one writer at a time
	}
	ctx, other := w.t.Context(), w.open(w.t)
	disable := func(t *testing.T) {
		t.Helper()
		must(other.DisableDestination(ctx, w.tenant, w.destination.ID, storage.DisabledByUser))(t)
	}
	for name, c := range map[string]struct {
		before, meanwhile func(*testing.T)
		sent              int
		statuses          string
	}{
		"Disabled": {nil, disable, 0, "map[held:1]"},
		"Enabled": {disable, func(t *testing.T) {
			t.Helper()
			must(other.EnableDestination(ctx, w.tenant, w.destination.ID))(t)
			want(t, "to send before the commit", w.run(t), 0)
		}, 1, "map[pending:1]"},
		"Deleted": {nil, func(t *testing.T) {
			t.Helper()
			check(t, other.ForceDeleteDestination(ctx, w.tenant, w.destination.ID))
		}, 0, "map[canceled:1]"},
	} {
		for what, write := range map[string]func(t *testing.T, tx *storage.Store) error{"End": w.writeEnd, "Alert": w.writeAlert} {
			w.t.Run(name+what, func(t *testing.T) {
				w.destination = w.newWebhook(t, w.tenant, true)
				w.watch(t, name+what)
				if c.before != nil {
					c.before(t)
				}
				check(t, w.Atomically(ctx, func(tx *storage.Store) error {
					err := write(t, tx)
					c.meanwhile(t)
					return err
				}))
				want(t, "to send", w.run(t), c.sent)
				want(t, "deliveries", w.statuses(t), c.statuses)
				want(t, "next", w.groupDue(t, deliverGroup(w.destination)).IsZero(), c.sent == 0)
			})
		}
	}
}

// writeEnd ends the world's watches.
func (w *world) writeEnd(t *testing.T, tx *storage.Store) error {
	t.Helper()
	var results []storage.PollResult
	for _, poll := range w.take(t) {
		results = append(results, storage.PollResult{RowID: poll.RowID, At: w.clock.Now(), End: storage.WatchUnobservable})
	}
	return tx.RecordPolls(t.Context(), results)
}

// writeAlert tells the alerts destinations of another.
func (w *world) writeAlert(t *testing.T, tx *storage.Store) error {
	t.Helper()
	_, err := tx.DisableDestination(t.Context(), "", w.newWebhook(t, w.tenant, false).ID, storage.DisabledGone)
	return err
}

// testMovedDespiteAPause: a receiver has asked for a pause of a day, and is deleted. What
// waits for it does not wait for that day.
func testMovedDespiteAPause(w *world) {
	t := w.t
	w.Store = w.moving(t, 2)
	for i := range 3 {
		w.complete(t, strconv.Itoa(i))
	}
	group := deliverGroup(w.destination)
	want(t, "leased", must(w.LeaseGroup(t.Context(), group, "me", time.Minute))(t), true)
	must(w.ReleaseGroup(t.Context(), group, "me", storage.Pause{Until: w.Steady().Add(24 * time.Hour)}))(t)
	check(t, w.ForceDeleteDestination(t.Context(), w.tenant, w.destination.ID))
	want(t, "to send", w.run(t), 0)
	want(t, "one run later", w.statuses(t), "map[canceled:3]")
}

// testTurns: a group that is given back with old work left is due behind those that
// have waited since, or a thousand that are never done kept all others out.
func testTurns(w *world) {
	t := w.t
	slow, healthy := w.destination, w.newWebhook(t, w.tenant, false)
	w.complete(t, "1")
	w.clock.advance(time.Minute)
	w.destination = healthy
	w.complete(t, "2")
	w.clock.advance(time.Minute)
	slowFirst := func() bool {
		due := must(w.DueGroups(t.Context(), 10))(t)
		return slices.Index(due, deliverGroup(slow)) < slices.Index(due, deliverGroup(healthy))
	}
	want(t, "the one that has waited longer is first", slowFirst(), true)
	want(t, "leased", must(w.LeaseGroup(t.Context(), deliverGroup(slow), "me", time.Minute))(t), true)
	want(t, "next", must(w.ReleaseGroup(t.Context(), deliverGroup(slow), "me", storage.Pause{}))(t), w.Steady())
	want(t, "it is first again", slowFirst(), false)
}

// testForeignRowIsNotWaitedFor: how long an answer takes says nothing of what another
// tenant's destination is busy with.
func testForeignRowIsNotWaitedFor(w *world) {
	if w.Backend() == "sqlite" {
		return // has one writer at a time
	}
	t, other := w.t, w.open(w.t)
	stranger := must(w.EnsureTenant(t.Context(), "stranger"))(t).ID
	check(t, w.Atomically(t.Context(), func(tx *storage.Store) error {
		must(tx.DisableDestination(t.Context(), w.tenant, w.destination.ID, storage.DisabledByUser))(t)
		_, err := other.DisableDestination(t.Context(), stranger, w.destination.ID, storage.DisabledByUser)
		wantError(t, "disable while it is locked", err, storage.ErrNotFound)
		_, err = other.EnableDestination(t.Context(), stranger, w.destination.ID)
		wantError(t, "enable while it is locked", err, storage.ErrNotFound)
		_, err = other.Recover(t.Context(), storage.Recovery{TenantID: stranger, DestinationID: w.destination.ID}, nil)
		wantError(t, "recover while it is locked", err, storage.ErrNotFound)
		wantError(t, "delete while it is locked", other.ForceDeleteDestination(t.Context(), stranger, w.destination.ID), storage.ErrNotFound)
		return nil
	}))
}
