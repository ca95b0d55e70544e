package storage_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/storage"
)

// statesOf lists the deliveries by each status: how many, and how many attempts were made at them.
func (w *world) statesOf(t *testing.T) string {
	t.Helper()
	var states []string
	for _, status := range []string{
		storage.DeliveryPending, storage.DeliveryHeld, storage.DeliverySucceeded, storage.DeliveryFailed, storage.DeliveryCanceled,
	} {
		f := storage.DeliveryFilter{TenantID: w.tenant, Status: status}
		found := must(w.Deliveries(t.Context(), f, storage.Page{Limit: 100}))(t).Data
		attempts := 0
		for _, d := range found {
			want(t, "status", d.Status, status)
			want(t, "due when "+status, d.NextAttemptAt.IsZero(), status != storage.DeliveryPending)
			want(t, "unfinished when "+status, d.FinishedAt.IsZero(), status == storage.DeliveryPending || status == storage.DeliveryHeld)
			attempts += d.AttemptsMade
		}
		if len(found) > 0 {
			states = append(states, fmt.Sprintf("%s %d/%d", status, len(found), attempts))
		}
	}
	w.wantTables(t)
	return strings.Join(states, " ")
}

// wantTables checks that a delivery waits, or is unaccepted, or was attempted, and that what waits
// knows the attempts.
func (w *world) wantTables(t *testing.T) {
	t.Helper()
	for what, query := range map[string]string{
		"both wait and are unaccepted": `SELECT COUNT(*) FROM waiting_deliveries w JOIN unaccepted_deliveries u ON u.id = w.id`,
		"were never attempted, and do not wait": `SELECT COUNT(*) FROM deliveries WHERE id NOT IN (SELECT id FROM waiting_deliveries)
			AND id NOT IN (SELECT id FROM unaccepted_deliveries) AND id NOT IN (SELECT delivery_id FROM attempts)`,
		"wait and have other attempts": `SELECT COUNT(*) FROM waiting_deliveries w
			WHERE attempts_made <> (SELECT COUNT(*) FROM attempts WHERE delivery_id = w.id)`,
		"wait as they should not": `SELECT COUNT(*) FROM waiting_deliveries WHERE turn <> 'held' AND (turn = 'again') <> (step > 0)`,
	} {
		var n int
		check(t, w.raw(t).QueryRowContext(t.Context(), query).Scan(&n))
		want(t, "deliveries that "+what, n, 0)
	}
}

// testDeliveryStates: a delivery is listed by its status, whatever became of it before.
func testDeliveryStates(w *world) {
	t := w.t
	ctx, destination := t.Context(), w.destination.ID
	for i := range 4 {
		w.complete(t, strconv.Itoa(i))
	}
	due := w.deliveries(t, w.destination)
	want(t, "made", w.statesOf(t), "pending 4/0")
	w.record(t, w.attempt(due[0], storage.DeliverySucceeded, 0), w.attempt(due[1], storage.DeliveryFailed, 0),
		w.attempt(due[2], storage.DeliveryPending, time.Hour))
	want(t, "attempted", w.statesOf(t), "pending 2/1 succeeded 1/1 failed 1/1")
	must(w.DisableDestination(ctx, w.tenant, destination, storage.DisabledByUser))(t)
	want(t, "disabled", w.statesOf(t), "held 2/1 succeeded 1/1 failed 1/1")
	must(w.Redeliver(ctx, w.tenant, due[1].ID))(t)
	want(t, "redelivered while disabled", w.statesOf(t), "held 3/2 succeeded 1/1")
	recovery := storage.Recovery{TenantID: w.tenant, DestinationID: destination, Since: start}
	want(t, "recovered while disabled", must(w.Recover(ctx, recovery, nil))(t), 3)
	must(w.EnableDestination(ctx, w.tenant, destination))(t)
	want(t, "enabled", w.statesOf(t), "pending 3/2 succeeded 1/1")
	must(w.Redeliver(ctx, w.tenant, due[0].ID))(t)
	want(t, "redelivered", w.statesOf(t), "pending 4/3")
	var all []storage.AttemptResult
	for _, d := range w.deliveries(t, w.destination) {
		want(t, "step", d.Step, 0)
		all = append(all, w.attempt(d, storage.DeliveryFailed, 0))
	}
	w.record(t, all...)
	want(t, "failed", w.statesOf(t), "failed 4/7")
	want(t, "recovered", must(w.Recover(ctx, recovery, nil))(t), 4)
	want(t, "pending again", w.statesOf(t), "pending 4/7")
	w.record(t, w.attempt(w.deliveries(t, w.destination)[0], storage.DeliveryPending, time.Hour))
	want(t, "due without the one that is put off", len(w.deliveries(t, w.destination)), 3)
	for _, d := range all {
		must(w.Redeliver(ctx, w.tenant, d.DeliveryID))(t)
	}
	due = w.deliveries(t, w.destination)
	for _, d := range due {
		want(t, "step after a redelivery", d.Step, 0)
	}
	check(t, w.ForceDeleteDestination(ctx, w.tenant, destination))
	want(t, "deleted", w.statesOf(t), "canceled 4/8")

	// Attempts that were under way meanwhile count.
	w.record(t, w.attempt(due[0], storage.DeliverySucceeded, 0), w.attempt(due[1], storage.DeliveryFailed, 0),
		w.attempt(due[2], storage.DeliveryPending, time.Hour))
	want(t, "attempted nevertheless", w.statesOf(t), fmt.Sprintf("succeeded 1/%d canceled 3/%d",
		due[0].AttemptsMade+1, due[1].AttemptsMade+due[2].AttemptsMade+due[3].AttemptsMade+2))
	w.record(t, w.attempt(due[0], storage.DeliveryFailed, 0), w.attempt(due[1], storage.DeliverySucceeded, 0)) // late: others were recorded
	want(t, "accepted", w.delivery(t, due[0].ID).Status, storage.DeliverySucceeded)
	want(t, "not accepted", w.delivery(t, due[1].ID).Status, storage.DeliveryCanceled)
}
