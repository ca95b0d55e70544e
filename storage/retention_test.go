package storage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/storage"
)

// keptFor is for how long these tests keptFor what has ended.
const keptFor = time.Hour

// forget has retention go through all that there is, and the next walk be due after it.
func (w *world) forget(t *testing.T) {
	t.Helper()
	for range 1000 {
		if must(w.DeleteOld(t.Context(), keptFor))(t) == keptFor/100 {
			w.clock.advance(keptFor / 100)
			return
		}
	}
	t.Fatal("retention comes to no end")
}

// rows says how many rows there are in the tables that retention deletes from.
func (w *world) rows(t *testing.T) string {
	t.Helper()
	db := w.raw(t)
	var counts []string
	for _, table := range []string{"watches", "operations", "events", "deliveries", "attempts", "watch_destinations", "slack_messages"} {
		var n int
		check(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n))
		if table == "operations" {
			var open int
			check(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM open_operations`).Scan(&open))
			n += open
		}
		counts = append(counts, fmt.Sprint(n, " ", table))
	}
	for rows, of := range map[string]string{
		"watch_ends WHERE watch_id": "watches", "open_watches WHERE watch_id": "watches", "uncompleted_watches WHERE watch_id": "watches",
		"waiting_deliveries WHERE id": "deliveries", "unaccepted_deliveries WHERE id": "deliveries",
	} {
		var n int
		check(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+rows+` NOT IN (SELECT id FROM `+of+`)`).Scan(&n))
		if n > 0 {
			t.Errorf("%d %s is gone", n, rows)
		}
	}
	return strings.Join(counts, ", ")
}

const noRows = "0 watches, 0 operations, 0 events, 0 deliveries, 0 attempts, 0 watch_destinations, 0 slack_messages"

// settle delivers what is due at a destination.
func (w *world) settle(t *testing.T, d storage.Destination, status string) {
	t.Helper()
	for _, due := range w.deliveries(t, d) {
		w.record(t, w.attempt(due, status, 0))
	}
}

// What ended longer ago goes, with all that belongs to it, and nothing else does.
func testRetention(w *world) {
	t, ctx := w.t, w.t.Context()
	bot := w.newBot(t)
	request := w.request("1")
	request.DestinationIDs = append(request.DestinationIDs, bot.ID)
	old := must(w.CreateWatches(ctx, []storage.NewWatch{request, w.request("2"), w.request("3")}))(t)
	w.show(t, bot, w.only(t, bot))
	must(w.CancelWatch(ctx, w.tenant, old[2].ID))(t)
	for i, poll := range w.take(t) {
		w.end(t, poll, []string{storage.WatchCompleted, storage.WatchFailed}[i])
	}
	must(w.TestDestination(ctx, w.tenant, w.destination.ID))(t)
	w.settle(t, bot, storage.DeliverySucceeded)
	w.settle(t, w.destination, storage.DeliveryFailed)
	w.clock.advance(keptFor / 2)
	w.complete(t, "4")
	w.settle(t, w.destination, storage.DeliverySucceeded)
	all := w.rows(t)
	want(t, "all", all, "4 watches, 4 operations, 4 events, 5 deliveries, 5 attempts, 5 watch_destinations, 1 slack_messages")
	w.clock.advance(keptFor / 2)
	w.forget(t)
	want(t, "what ended an hour ago, not longer", w.rows(t), all)
	w.forget(t)
	want(t, "the younger", w.rows(t), "1 watches, 1 operations, 1 events, 1 deliveries, 1 attempts, 1 watch_destinations, 0 slack_messages")
	want(t, "deleted", fmt.Sprint(w.Counters().Deleted), fmt.Sprint(map[string]int64{
		storage.DeletedWatches: 3, storage.DeletedOperations: 3, storage.DeletedEvents: 3, storage.DeletedDeliveries: 4,
		storage.DeletedAttempts: 4, storage.DeletedSlackMessages: 1,
	}))
	_, err := w.Watch(ctx, w.tenant, old[0].ID)
	wantError(t, "a watch that is gone", err, storage.ErrNotFound)
	w.clock.advance(keptFor / 2)
	w.forget(t)
	want(t, "after all", w.rows(t), noRows)
	w.forget(t) // of nothing
	w.complete(t, "1")
	want(t, "anew", w.rows(t), "1 watches, 1 operations, 1 events, 1 deliveries, 0 attempts, 1 watch_destinations, 0 slack_messages")
}

// What waits or is held stays, however old, with all that it needs, and goes once it is settled.
func testRetentionOfWhatWaits(w *world) {
	t, ctx := w.t, w.t.Context()
	held := w.newWebhook(t, w.tenant, false)
	bot := w.newBot(t)
	two := w.request("held at one of two")
	two.DestinationIDs = append(two.DestinationIDs, held.ID)
	made := must(w.CreateWatches(ctx, []storage.NewWatch{two}))(t)
	w.end(t, w.take(t)[0], storage.WatchCompleted)
	w.settle(t, w.destination, storage.DeliverySucceeded)
	must(w.DisableDestination(ctx, w.tenant, held.ID, storage.DisabledByUser))(t)
	pending := w.complete(t, "pending")
	progress := w.botWatch(t, bot, "its message is behind")
	must(w.CancelWatch(ctx, w.tenant, progress.ID))(t)
	tested := must(w.TestDestination(ctx, w.tenant, held.ID))(t)
	long := w.request("open for long")
	long.Timeout = 30 * 24 * time.Hour
	open := must(w.CreateWatches(ctx, []storage.NewWatch{long}))(t)[0]
	all := w.rows(t)
	for range 3 {
		w.clock.advance(2 * keptFor)
		w.forget(t)
		want(t, "what waits", w.rows(t), all)
	}
	want(t, "the watch of a held delivery", w.reload(t, made[0]).Status, storage.WatchCompleted)
	want(t, "a test that is held", w.delivery(t, tested.ID).Status, storage.DeliveryHeld)
	due := w.deliveries(t, w.destination)
	if len(due) != 1 || due[0].ID != pending.ID {
		t.Fatalf("due: %v", due)
	}
	w.settle(t, w.destination, storage.DeliverySucceeded)
	must(w.EnableDestination(ctx, w.tenant, held.ID))(t)
	w.deliveries(t, held)
	w.settle(t, held, storage.DeliverySucceeded)
	w.show(t, bot, w.only(t, bot))
	w.forget(t)
	want(t, "the watch of what was sent just now", w.reload(t, made[0]).Status, storage.WatchCompleted)
	want(t, "what was sent just now", w.delivery(t, pending.ID).Status, storage.DeliverySucceeded)
	w.clock.advance(keptFor)
	w.forget(t)
	want(t, "the one that is open", w.rows(t), "1 watches, 1 operations, 0 events, 0 deliveries, 0 attempts, 1 watch_destinations, 0 slack_messages")
	must(w.CancelWatch(ctx, w.tenant, open.ID))(t)
	w.clock.advance(keptFor)
	w.forget(t)
	want(t, "what was canceled just now", w.reload(t, open).Status, storage.WatchCanceled)
	w.forget(t)
	want(t, "in the end", w.rows(t), noRows)
}

// An operation stays while one of its watches does, and goes with the last one, whichever
// process deletes that. A watch that comes later has another one.
func testRetentionOfSharedOperations(w *world) {
	t, ctx := w.t, w.t.Context()
	requests := []storage.NewWatch{w.request("1"), w.request("1")}
	requests[1].DestinationIDs = nil
	must(w.CreateWatches(ctx, requests))(t)
	w.end(t, w.take(t)[0], storage.WatchCompleted)
	w.clock.advance(2 * keptFor)
	w.watch(t, "1")
	w.forget(t)
	want(t, "one is delivered yet", w.rows(t), "2 watches, 2 operations, 1 events, 1 deliveries, 0 attempts, 2 watch_destinations, 0 slack_messages")
	w.settle(t, w.destination, storage.DeliverySucceeded)
	w.clock.advance(2 * keptFor)
	w.forget(t)
	want(t, "the period that is open", w.rows(t), "1 watches, 1 operations, 0 events, 0 deliveries, 0 attempts, 1 watch_destinations, 0 slack_messages")
	want(t, "it is polled", len(w.take(t)), 1)
	long := w.request("2")
	long.Timeout = 30 * 24 * time.Hour
	canceled := must(w.CreateWatches(ctx, []storage.NewWatch{long, long}))(t)[0]
	must(w.CancelWatch(ctx, w.tenant, canceled.ID))(t)
	w.clock.advance(2 * keptFor)
	w.forget(t)
	want(t, "one of two is left while it goes on", w.rows(t), "2 watches, 2 operations, 0 events, 0 deliveries, 0 attempts, 2 watch_destinations, 0 slack_messages")
	for _, poll := range w.take(t) {
		w.end(t, poll, storage.WatchCompleted)
	}
	w.settle(t, w.destination, storage.DeliverySucceeded)
	w.clock.advance(2 * keptFor)
	w.forget(t)
	want(t, "in the end", w.rows(t), noRows)
}

// Any number of watches goes in steps, past any number that stay, and a step that fails or is
// cut off is made again.
func testRetentionInSteps(w *world) {
	t, ctx := w.t, w.t.Context()
	request := w.request("open")
	request.Timeout = 30 * 24 * time.Hour
	requests := slices.Repeat([]storage.NewWatch{request}, 2100) // more than a step looks at
	must(w.CreateWatches(ctx, requests))(t)
	for i := range requests {
		requests[i] = w.request(strconv.Itoa(i))
		requests[i].DestinationIDs = nil
	}
	must(w.CreateWatches(ctx, requests[:1000]))(t)
	var results []storage.PollResult
	for _, poll := range w.take(t) {
		if poll.OperationID != "open" {
			results = append(results, storage.PollResult{RowID: poll.RowID, At: start, Status: storage.OperationCompleted, End: storage.WatchCompleted})
		}
	}
	check(t, w.RecordPolls(ctx, results))
	w.clock.advance(2 * keptFor)
	before := w.Counters().Deleted[storage.DeletedWatches]
	for steps := 1; ; steps++ {
		dead, cut := context.WithCancel(ctx)
		cut()
		if _, err := w.DeleteOld(dead, keptFor); err == nil {
			t.Error("a process that was cut off went on")
		}
		must(w.DeleteOld(ctx, keptFor))(t)
		after := w.Counters().Deleted[storage.DeletedWatches]
		if after-before > 500 {
			t.Errorf("%d watches at once", after-before)
		}
		if before = after; after == 1000 {
			break
		}
		if steps > 20 {
			t.Fatalf("%d watches after %d steps", after, steps)
		}
	}
	w.forget(t)
	want(t, "left", w.rows(t), "2100 watches, 1 operations, 0 events, 0 deliveries, 0 attempts, 2100 watch_destinations, 0 slack_messages")
}

// Several processes delete at the same time, beside registrations on the same operations and
// redeliveries: nothing fails, and what is redelivered is kept whole or not found.
func testRetentionBesideOthers(w *world) {
	t := w.t
	const n = 60
	var deliveries []storage.Delivery
	for i := range n {
		deliveries = append(deliveries, w.complete(t, strconv.Itoa(i)))
	}
	w.settle(t, w.destination, storage.DeliveryFailed)
	w.clock.advance(2 * keptFor)
	others := []*storage.Store{w.open(t), w.open(t)}
	again := make([]bool, n)
	together(t, 4, func(ctx context.Context, worker int) error {
		switch worker {
		case 0, 1:
			for range 10 {
				if _, err := others[worker].DeleteOld(ctx, keptFor); err != nil {
					return err
				}
			}
		case 2:
			for i := range n {
				if _, err := w.CreateWatches(ctx, []storage.NewWatch{w.request(strconv.Itoa(i))}); err != nil {
					return err
				}
			}
		case 3:
			for i, d := range slices.Backward(deliveries) {
				_, err := w.Redeliver(ctx, w.tenant, d.ID)
				if again[i] = err == nil; err != nil && !errors.Is(err, storage.ErrNotFound) {
					return err
				}
			}
		}
		return nil
	})
	w.forget(t)
	w.forget(t)
	kept := 0
	for i, d := range deliveries {
		watch, err := w.Watch(t.Context(), w.tenant, d.WatchID)
		if again[i] {
			kept++
			check(t, err)
			want(t, "a redelivery", w.delivery(t, d.ID).Status, storage.DeliveryPending)
			want(t, "its event", must(w.Event(t.Context(), w.tenant, d.EventID))(t).WatchID, watch.ID)
		} else if !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("what was not redelivered is kept: %v", err)
		}
	}
	want(t, "rows", w.rows(t), fmt.Sprintf("%d watches, %[1]d operations, %d events, %[2]d deliveries, %[2]d attempts, %[1]d watch_destinations, 0 slack_messages", n+kept, kept))
	want(t, "to be sent again", len(w.deliveries(t, w.destination)), kept)
}

// A delivery that is redelivered in a transaction that is still open stays, with what it needs.
func testRetentionOfWhatIsLocked(w *world) {
	t, ctx := w.t, w.t.Context()
	d := w.complete(t, "1")
	w.settle(t, w.destination, storage.DeliveryFailed)
	w.clock.advance(2 * keptFor)
	if w.Backend() == "postgres" { // SQLite has one writer
		other := w.open(t)
		check(t, w.Atomically(ctx, func(tx *storage.Store) error {
			if _, err := tx.Redeliver(ctx, w.tenant, d.ID); err != nil {
				return err
			}
			for range 4 {
				if _, err := other.DeleteOld(ctx, keptFor); err != nil {
					return err
				}
			}
			return nil
		}))
	} else {
		must(w.Redeliver(ctx, w.tenant, d.ID))(t)
	}
	w.clock.advance(keptFor)
	w.forget(t)
	want(t, "redelivered", w.delivery(t, d.ID).Status, storage.DeliveryPending)
	w.settle(t, w.destination, storage.DeliverySucceeded)
	w.clock.advance(2 * keptFor)
	w.forget(t)
	_, err := w.Redeliver(ctx, w.tenant, d.ID)
	wantError(t, "what is gone", err, storage.ErrNotFound)
}

// Whoever reads the feed is told where it begins if it does not go on from where they were, and
// never misses an event without a word.
func testFeedGone(w *world) {
	t, ctx := w.t, w.t.Context()
	other := w.stranger(t)
	foreign := must(other.TestDestination(ctx, other.tenant, other.destination.ID))(t)
	var ids []string
	for i := range 6 {
		ids = append(ids, w.complete(t, strconv.Itoa(i)).EventID)
		w.settle(t, w.destination, storage.DeliverySucceeded)
		w.clock.advance(keptFor / 4)
	}
	page := must(w.Events(ctx, storage.FeedFilter{TenantID: w.tenant}, 1))(t)
	want(t, "the first page goes on after", page.Next, ids[0])
	w.forget(t) // the first two
	_, err := w.Events(ctx, storage.FeedFilter{TenantID: w.tenant, After: ids[1]}, 5)
	last := (*storage.FeedGoneError)(nil)
	if !errors.As(err, &last) {
		t.Fatalf("after the last that is gone: %v", err)
	}
	for _, f := range []storage.FeedFilter{{}, {Since: start}, {After: last.Begins}} {
		if got := w.follow(f, 1); !slices.Equal(got, ids[2:]) {
			t.Errorf("%+v: %v, want %v", f, got, ids[2:])
		}
	}
	gone := func(what string, err error) {
		t.Helper()
		if begins := (*storage.FeedGoneError)(nil); !errors.As(err, &begins) {
			t.Errorf("%s: %v", what, err)
		} else if begins.Last != ids[1] || begins.Begins != last.Begins || !begins.At.Equal(start.Add(keptFor/4)) {
			t.Errorf("%s: the feed begins after %s of %s, want %s", what, begins.Last, begins.At, ids[1])
		}
	}
	for what, after := range map[string]string{
		"the next page": page.Next, "the beginning of all": storage.FeedStart, "an id of then": ids[0][:len(ids[0])-1] + "0",
	} {
		_, err := w.Events(ctx, storage.FeedFilter{TenantID: w.tenant, After: after}, 5)
		gone(what, err)
		_, err = w.FeedPlace(ctx, w.tenant, after)
		gone(what, err)
	}
	_, err = w.EventsFrom(ctx, storage.FeedPart{TenantID: w.tenant, After: 1, Type: storage.EventOperationFailed}, 5)
	gone("from a place", err)
	_, err = w.Events(ctx, storage.FeedFilter{TenantID: w.tenant, After: ids[5][:len(ids[5])-1] + "0"}, 5)
	if ids[5][len(ids[5])-1] != '0' {
		wantError(t, "an id that is none", err, storage.ErrNotFound)
	}
	if place := must(w.FeedPlace(ctx, other.tenant, foreign.EventID))(t); place != 1 {
		t.Errorf("another tenant's feed: %d", place)
	}
	w.clock.advance(2 * keptFor)
	w.forget(t)
	place, id, err := w.FeedEnd(ctx, w.tenant)
	if err != nil || place != 6 || id[:len(id)-4] != ids[5][:len(id)-4] || id == ids[5] {
		t.Errorf("the empty feed ends at %d, %s, %v", place, id, err)
	}
	next := w.complete(t, "next")
	if got := w.follow(storage.FeedFilter{After: id}, 5); !slices.Equal(got, []string{next.EventID}) {
		t.Errorf("after its end: %v", got)
	}
}

// A wall clock that is set forward makes nothing old.
func testRetentionByTheClock(w *world) {
	t := w.t
	w.complete(t, "1")
	w.settle(t, w.destination, storage.DeliverySucceeded)
	w.clock.set(1000 * keptFor)
	w.forget(t)
	w.clock.set(-1000 * keptFor)
	w.forget(t)
	if w.rows(t) == noRows {
		t.Error("it went before its time")
	}
	w.clock.advance(keptFor)
	kept := must(w.Kept(t.Context(), keptFor))(t)
	want(t, "behind", kept, storage.Kept{Oldest: start, Behind: w.clock.Now().Add(-keptFor).Sub(start.Add(keptFor/100 - keptFor))})
	w.forget(t)
	want(t, "after its time", w.rows(t), noRows)
	want(t, "all is done", must(w.Kept(t.Context(), keptFor))(t), storage.Kept{Behind: keptFor / 100})
}

// SQLite's file becomes smaller.
func TestSQLiteShrinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "sqlite:"+t.TempDir()+"/relay.db")
	requests := make([]storage.NewWatch, 2000)
	for i := range requests {
		requests[i] = w.request(strconv.Itoa(i))
		requests[i].Metadata = map[string]string{"much": strings.Repeat("x", 1000)}
	}
	watches := must(w.CreateWatches(t.Context(), requests))(t)
	size := func() int64 {
		t.Helper()
		var busy, pages, moved int
		check(t, w.raw(t).QueryRowContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &moved))
		return must(os.Stat(strings.TrimPrefix(w.url, "sqlite:")))(t).Size()
	}
	before := size()
	for _, watch := range watches[:1900] {
		must(w.CancelWatch(t.Context(), w.tenant, watch.ID))(t)
	}
	w.clock.advance(2 * keptFor)
	w.forget(t)
	if after := size(); after > before/4 {
		t.Errorf("with a twentieth of the rows the file has %d of %d bytes", after, before)
	}
	check(t, w.raw(t).QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(new(string)))
}
