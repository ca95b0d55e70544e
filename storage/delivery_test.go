package storage_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/storage"
)

// attempt is the result of an attempt at a delivery.
func (w *world) attempt(d storage.DueDelivery, status string, next time.Duration) storage.AttemptResult {
	r := storage.AttemptResult{
		DeliveryID: d.ID, DestinationID: d.DestinationID, AttemptsMade: d.AttemptsMade, Status: status, Attempt: storage.Attempt{
			Number: d.AttemptsMade + 1, StartedAt: w.clock.Now(), Duration: 1500 * time.Microsecond, StatusCode: 500,
			Error: "HTTP 500", ResponseBody: []byte{0xff, 0},
		},
	}
	if next > 0 {
		r.NextAttemptAt = w.clock.Now().Add(next)
	}
	return r
}

func (w *world) record(t *testing.T, results ...storage.AttemptResult) {
	t.Helper()
	check(t, w.RecordAttempts(t.Context(), results))
}

func (w *world) health(t *testing.T) storage.Destination {
	t.Helper()
	return must(w.Destination(t.Context(), w.tenant, w.destination.ID))(t)
}

func testAttemptsAndHealth(w *world) {
	t := w.t
	id := w.complete(t, "1").ID
	due := w.deliveries(t, w.destination)[0]
	w.record(t, w.attempt(due, storage.DeliveryPending, time.Minute))
	w.record(t, w.attempt(due, storage.DeliverySucceeded, 0)) // late: another attempt was recorded
	got, attempts, err := w.Delivery(t.Context(), w.tenant, id)
	check(t, err)
	want(t, "status", got.Status, storage.DeliveryPending)
	want(t, "next attempt", got.NextAttemptAt, start.Add(time.Minute))
	want(t, "attempts", fmt.Sprint(attempts),
		fmt.Sprint([]storage.Attempt{w.attempt(due, "", 0).Attempt}))
	want(t, "failing since", w.health(t).FailingSince, start)
	want(t, "due before its time", len(w.deliveries(t, w.destination)), 0)
	want(t, "group due", w.groupDue(t, deliverGroup(w.destination)), start.Add(time.Minute))

	w.clock.advance(time.Minute)
	due = w.deliveries(t, w.destination)[0]
	want(t, "step", due.Step, 1)
	w.record(t, w.attempt(due, storage.DeliveryFailed, 0))
	want(t, "failures", w.health(t).ConsecutiveFailures, 2)
	want(t, "failing since", w.health(t).FailingSince, start)
	want(t, "finished", w.delivery(t, id).FinishedAt, w.clock.Now())

	accepted := w.complete(t, "2").ID
	odd := w.attempt(w.deliveries(t, w.destination)[0], storage.DeliverySucceeded, 0)
	odd.Attempt.Error = "a\x00b\xff"
	w.record(t, odd)
	_, attempts, err = w.Delivery(t.Context(), w.tenant, accepted)
	check(t, err)
	want(t, "an error that is no text", attempts[0].Error, "a\uFFFDb\uFFFD")
	want(t, "failures after a success", w.health(t).ConsecutiveFailures, 0)
	want(t, "failing since after a success", w.health(t).FailingSince, time.Time{})
}

// What came of attempts at several destinations is written together, and each has
// its own account of it.
func testAttemptsAtSeveral(w *world) {
	t := w.t
	other := w.newWebhook(t, w.tenant, false)
	request := w.request("1")
	request.DestinationIDs = append(request.DestinationIDs, other.ID)
	must(w.CreateWatches(t.Context(), []storage.NewWatch{request}))(t)
	w.end(t, w.take(t)[0], storage.WatchCompleted)
	failed, accepted := w.deliveries(t, w.destination)[0], w.deliveries(t, other)[0]
	must(w.DisableDestination(t.Context(), w.tenant, w.destination.ID, storage.DisabledByUser))(t)
	w.record(t, w.attempt(accepted, storage.DeliverySucceeded, 0), w.attempt(failed, storage.DeliveryPending, time.Minute))
	want(t, "where it is disabled", w.delivery(t, failed.ID).Status, storage.DeliveryHeld)
	want(t, "where it is accepted", w.delivery(t, accepted.ID).Status, storage.DeliverySucceeded)
	want(t, "failures where it failed", w.health(t).ConsecutiveFailures, 1)
	healthy := must(w.Destination(t.Context(), w.tenant, other.ID))(t)
	want(t, "failures where it was accepted", healthy.ConsecutiveFailures, 0)
}

// groupDue leases and releases a group to learn when it is due.
func (w *world) groupDue(t *testing.T, group storage.Group) time.Time {
	t.Helper()
	w.lease(t, group)
	return w.release(t, group)
}

func testDueDeliveriesShare(w *world) {
	t := w.t
	for i := range 20 {
		w.complete(t, strconv.Itoa(i))
	}
	var retries []storage.AttemptResult
	for _, d := range w.deliveries(t, w.destination)[:10] {
		retries = append(retries, w.attempt(d, storage.DeliveryPending, time.Nanosecond))
	}
	w.record(t, retries...)
	w.clock.advance(time.Second)
	w.lease(t, deliverGroup(w.destination))
	for _, c := range []struct{ limit, first, again int }{{8, 6, 2}, {12, 9, 3}, {16, 10, 6}, {50, 10, 10}} {
		due := must(w.DueDeliveries(t.Context(), storage.TakeDeliveries{
			Group: w.destination.ID, Owner: "me", Max: c.limit,
		}))(t)
		steps := map[int]int{}
		for _, d := range due {
			steps[d.Step]++
		}
		// What is not a whole quarter goes by lot.
		if len(due) != c.first+c.again || steps[1] < c.again || steps[1] > c.again+1 {
			t.Errorf("of %d: %v, want %d first and %d again", c.limit, steps, c.first, c.again)
		}
	}
	all := must(w.DueDeliveries(t.Context(), storage.TakeDeliveries{Group: w.destination.ID, Owner: "me", Max: 50}))(t)
	exclude := map[string]bool{}
	for _, d := range all[:15] {
		exclude[d.ID] = true
	}
	rest := must(w.DueDeliveries(t.Context(), storage.TakeDeliveries{
		Group: w.destination.ID, Owner: "me", Max: 5, Exclude: exclude,
	}))(t)
	want(t, "not in flight", len(rest), 5)
	for _, d := range rest {
		want(t, "in flight", exclude[d.ID], false)
	}
}

func testDisableEnable(w *world) {
	t := w.t
	alerts := w.newWebhook(t, w.tenant, true)
	id := w.complete(t, "1").ID
	due := w.deliveries(t, w.destination)[0]
	for range 2 {
		d := must(w.DisableDestination(t.Context(), "", w.destination.ID, storage.DisabledGone))(t)
		want(t, "status", d.Status+d.DisabledReason, "disabledgone")
	}
	d := must(w.DisableDestination(t.Context(), w.tenant, w.destination.ID, storage.DisabledByUser))(t)
	want(t, "first reason", d.DisabledReason, storage.DisabledGone)
	want(t, "held", w.delivery(t, id).Status, storage.DeliveryHeld)
	want(t, "due while disabled", len(w.deliveries(t, w.destination)), 0)
	alert := w.deliveries(t, alerts)
	want(t, "alerts", len(alert), 1)
	want(t, "alert", string(alert[0].Body), `{"type":"destination.disabled","timestamp":"2026-11-23T10:00:00.123456Z",`+
		`"data":{"destination_id":"`+w.destination.ID+`","name":"hook","reason":"gone",`+
		`"disabled_at":"2026-11-23T10:00:00.123456Z","last_error":null}}`)

	w.record(t, w.attempt(due, storage.DeliveryPending, time.Hour)) // it was on its way
	want(t, "held after an attempt", w.delivery(t, id).Status, storage.DeliveryHeld)
	want(t, "born held", w.complete(t, "2").Status, storage.DeliveryHeld)
	test := must(w.TestDestination(t.Context(), w.tenant, w.destination.ID))(t)
	want(t, "test", test.Status+test.EventType, "helddestination.test")
	want(t, "redelivered", must(w.Redeliver(t.Context(), w.tenant, id))(t).Status, storage.DeliveryHeld)

	d = must(w.EnableDestination(t.Context(), w.tenant, w.destination.ID))(t)
	want(t, "enabled", d.Status+d.DisabledReason, storage.DestinationEnabled)
	want(t, "failures", w.health(t).ConsecutiveFailures, 0)
	want(t, "due when enabled", len(w.deliveries(t, w.destination)), 3)
	must(w.DisableDestination(t.Context(), w.tenant, w.destination.ID, storage.DisabledByUser))(t)
	want(t, "alerts after the user's own wish", len(w.deliveries(t, alerts)), 1)
}

// testLastError: why the last failed attempt failed is kept, and why a destination is
// disabled is not overwritten by what was under way then, nor by what ended with it.
func testLastError(w *world) {
	t := w.t
	alerts := w.newWebhook(t, w.tenant, true)
	for _, id := range []string{"1", "2", "3", "4"} {
		w.complete(t, id)
	}
	due := w.deliveries(t, w.destination)
	failed := func(i int, status, why string) storage.AttemptResult {
		r := w.attempt(due[i], status, time.Hour)
		r.Attempt.Error = why
		return r
	}
	want(t, "at first", w.health(t).LastError, "")
	w.record(t, failed(0, storage.DeliveryPending, "slow"), w.attempt(due[1], storage.DeliverySucceeded, 0))
	want(t, "after a success", w.health(t).LastError, "slow")
	check(t, w.Atomically(t.Context(), func(tx *storage.Store) error {
		err := tx.RecordAttempts(t.Context(), []storage.AttemptResult{
			failed(2, storage.DeliveryHeld, "gone\x00"), failed(3, storage.DeliveryPending, "slower"),
		})
		if err != nil {
			return err
		}
		_, err = tx.DisableDestination(t.Context(), "", w.destination.ID, storage.DisabledGone)
		return err
	}))
	want(t, "what disabled it", w.health(t).LastError, "gone\uFFFD")
	if body := string(w.deliveries(t, alerts)[0].Body); !strings.Contains(body, `"last_error":"gone\ufffd"`) &&
		!strings.Contains(body, `"last_error":"gone`+"\uFFFD"+`"`) {
		t.Errorf("told %s", body)
	}
	due[0].AttemptsMade++
	w.record(t, failed(0, storage.DeliveryPending, "late"))
	want(t, "after a late attempt", w.health(t).LastError, "gone\uFFFD")
	must(w.EnableDestination(t.Context(), w.tenant, w.destination.ID))(t)
	want(t, "enabled", w.health(t).LastError, "gone\uFFFD")
}

// testLateDeliveryIsHeld: a result that says held holds only while the
// destination is disabled.
func testLateDeliveryIsHeld(w *world) {
	t := w.t
	id := w.complete(t, "1").ID
	w.record(t, w.attempt(w.deliveries(t, w.destination)[0], storage.DeliveryHeld, 0))
	want(t, "held at an enabled destination", w.delivery(t, id).Status, storage.DeliveryPending)
	must(w.DisableDestination(t.Context(), w.tenant, w.destination.ID, storage.DisabledRejected))(t)
	want(t, "disabled after", w.delivery(t, id).Status, storage.DeliveryHeld)
}

func testRecover(w *world) {
	t := w.t
	ids := map[string]string{}
	for _, status := range []string{storage.DeliverySucceeded, storage.DeliveryFailed, storage.DeliveryPending} {
		ids[status] = w.complete(t, status).ID
		for _, due := range w.deliveries(t, w.destination) {
			next := time.Duration(0)
			if status == storage.DeliveryPending {
				next = time.Hour
			}
			w.record(t, w.attempt(due, status, next))
		}
		w.clock.advance(time.Minute)
	}
	destination := w.destination.ID
	recovered := func(since, until time.Time) int {
		t.Helper()
		r := storage.Recovery{TenantID: w.tenant, DestinationID: destination, Since: since, Until: until}
		return must(w.Recover(t.Context(), r, nil))(t)
	}
	want(t, "before", recovered(start.Add(-time.Hour), start.Add(-1)), 0)
	want(t, "since", recovered(start, time.Time{}), 2)
	due := w.deliveries(t, w.destination)
	want(t, "due", len(due), 2)
	for _, d := range due {
		want(t, "attempts go on", d.AttemptsMade, 1)
		want(t, "step of "+d.ID, d.Step, map[bool]int{true: 0, false: 1}[d.ID == ids[storage.DeliveryFailed]])
	}
	again := must(w.Redeliver(t.Context(), w.tenant, ids[storage.DeliverySucceeded]))(t)
	want(t, "redelivered", again.Status, storage.DeliveryPending)
	want(t, "redelivered at", again.NextAttemptAt, w.clock.Now())
	want(t, "not finished", again.FinishedAt, time.Time{})
	must(w.DisableDestination(t.Context(), w.tenant, destination, storage.DisabledByUser))(t)
	want(t, "held are counted", recovered(start, time.Time{}), 3)
	want(t, "held stay", w.delivery(t, ids[storage.DeliveryFailed]).Status, storage.DeliveryHeld)
}

func testDeletedDestination(w *world) {
	t := w.t
	id := w.complete(t, "1").ID
	due := w.deliveries(t, w.destination)[0]
	watch := w.watch(t, "2")
	check(t, w.ForceDeleteDestination(t.Context(), w.tenant, w.destination.ID))
	want(t, "canceled", w.delivery(t, id).Status, storage.DeliveryCanceled)
	w.record(t, w.attempt(due, storage.DeliveryPending, time.Hour))
	want(t, "still canceled", w.delivery(t, id).Status, storage.DeliveryCanceled)
	_, err := w.Redeliver(t.Context(), w.tenant, id)
	wantError(t, "redeliver", err, storage.ErrDestinationDeleted)
	want(t, "canceled after all", w.delivery(t, id).Status, storage.DeliveryCanceled)
	_, err = w.Redeliver(t.Context(), "tenant_other", id)
	wantError(t, "redeliver another tenant's", err, storage.ErrNotFound)
	_, err = w.CreateWatches(t.Context(), []storage.NewWatch{w.request("3")})
	wantError(t, "watch", err, storage.ErrNotFound)
	w.end(t, w.take(t)[0], storage.WatchCompleted)
	got := w.reload(t, watch)
	want(t, "the watch goes on without it", got.Status, storage.WatchCompleted)
	want(t, "and no longer lists it", fmt.Sprint(got.DestinationIDs), "[]")
	want(t, "deliveries", len(w.deliveries(t, w.destination)), 0)
}

// testLastSuccess: when a destination last accepted something is known to the second, and
// what waits for it is counted.
func testLastSuccess(w *world) {
	t := w.t
	for i := range 5 {
		w.complete(t, strconv.Itoa(i))
	}
	due := w.deliveries(t, w.destination)
	last := func(what string, at time.Time, waiting int) {
		t.Helper()
		want(t, what, w.health(t).LastSuccessAt, at)
		want(t, what+": waiting", must(w.Waiting(t.Context(), w.destination.ID))(t), waiting)
	}
	last("at first", time.Time{}, 5)
	first := w.attempt(due[0], storage.DeliverySucceeded, 0)
	w.record(t, first)
	at := start.Add(first.Attempt.Duration)
	last("accepted", at, 4)
	w.clock.advance(time.Second / 2)
	w.record(t, w.attempt(due[1], storage.DeliverySucceeded, 0))
	last("again, at once", at, 3)
	w.clock.advance(time.Second)
	w.record(t, w.attempt(due[2], storage.DeliverySucceeded, 0))
	at = at.Add(3 * time.Second / 2)
	last("again, later", at, 2)
	w.clock.advance(time.Hour)
	w.record(t, w.attempt(due[3], storage.DeliveryFailed, 0), w.attempt(due[4], storage.DeliveryPending, time.Hour))
	last("refused", at, 1)
	must(w.DisableDestination(t.Context(), w.tenant, w.destination.ID, storage.DisabledByUser))(t)
	last("disabled", at, 1)

	bot := w.newBot(t)
	w.botWatch(t, bot, "bot")
	w.show(t, bot, w.only(t, bot))
	want(t, "a bot's first message", must(w.Destination(t.Context(), w.tenant, bot.ID))(t).LastSuccessAt, w.clock.Now())
}
