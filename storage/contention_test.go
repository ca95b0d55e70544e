package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"oprelay/storage"
)

// testCloseOnlyOnce: whoever ends a watch at the same time, it makes one event.
func testCloseOnlyOnce(w *world) {
	t := w.t
	processes := []*storage.Store{w.Store, w.open(t)}
	for round := range 15 {
		operation := strconv.Itoa(round)
		watches := must(w.CreateWatches(t.Context(), slices.Repeat([]storage.NewWatch{w.request(operation)}, 3)))(t)
		poll := w.take(t)[0]
		w.clock.advance(time.Hour)
		must(w.LastPolls(t.Context(), 10))(t)
		w.clock.advance(10 * time.Minute)
		together(t, 5, func(ctx context.Context, i int) error {
			s := processes[i%2]
			switch i {
			case 0, 1:
				return s.RecordPolls(ctx, []storage.PollResult{{
					RowID: poll.RowID, At: w.clock.Now(), Status: storage.OperationCompleted, End: storage.WatchCompleted,
				}})
			case 2, 3:
				_, err := s.ExpireWatches(ctx, 100)
				return err
			}
			_, err := s.CancelWatch(ctx, w.tenant, watches[0].ID)
			return err
		})
		for _, watch := range watches {
			checkEnd(t, w, watch)
		}
	}
}

// checkEnd checks that a watch ended, with one event and delivery unless it was canceled.
func checkEnd(t *testing.T, w *world, watch storage.Watch) {
	t.Helper()
	got := w.reload(t, watch)
	events := 0
	for _, e := range w.feed(t, w.tenant) {
		if e.WatchID == watch.ID {
			events++
			want(t, "event id", got.EventID, e.ID)
		}
	}
	deliveries := must(w.Deliveries(t.Context(), storage.DeliveryFilter{TenantID: w.tenant, WatchID: watch.ID},
		storage.Page{Limit: 10}))(t).Data
	expected := 1
	switch got.Status {
	case storage.WatchCanceled:
		expected = 0
	case storage.WatchWatching:
		t.Errorf("%s is still watching", watch.ID)
	}
	want(t, "events of "+got.Status, events, expected)
	want(t, "deliveries of "+got.Status, len(deliveries), expected)
}

// testCancelRegisterCloseRace: an operation is registered, canceled and closed
// at the same time. No watch may be left that nobody polls for.
func testCancelRegisterCloseRace(w *world) {
	t := w.t
	other := w.open(t)
	for range 40 {
		first := w.watch(t, "1")
		poll := w.take(t)[0]
		var second storage.Watch
		together(t, 3, func(ctx context.Context, i int) error {
			switch i {
			case 0:
				made, err := w.CreateWatches(ctx, []storage.NewWatch{w.request("1")})
				if err == nil {
					second = made[0]
				}
				return err
			case 1:
				_, err := other.CancelWatch(ctx, w.tenant, first.ID)
				return err
			}
			return other.RecordPolls(ctx, []storage.PollResult{{
				RowID: poll.RowID, At: w.clock.Now(), Status: storage.OperationFailed, End: storage.WatchFailed,
			}})
		})
		checkEnd(t, w, first)
		if w.reload(t, second).Status == storage.WatchWatching {
			polls := w.take(t)
			if len(polls) != 1 {
				t.Fatalf("a watch is watching, and %d operations are polled", len(polls))
			}
			w.end(t, polls[0], storage.WatchCompleted)
		}
		checkEnd(t, w, second)
		want(t, "operations left", len(w.take(t)), 0)
	}
}

// testFeedMissesNothing: a reader that follows the feed while several write it
// sees every event exactly once.
func testFeedMissesNothing(w *world) {
	t := w.t
	const writers, each = 4, 15
	processes := []*storage.Store{w.Store, w.open(t)}
	var destinations [writers]storage.Destination // one each, or their locks would make the order
	for i := range destinations {
		destinations[i] = w.newWebhook(t, w.tenant, false)
	}
	var seen []string
	together(t, writers+1, func(ctx context.Context, i int) error {
		if i == writers {
			var err error
			seen, err = follow(ctx, w.Store, w.tenant, writers*each)
			return err
		}
		for range each {
			if _, err := processes[i%2].TestDestination(ctx, w.tenant, destinations[i].ID); err != nil {
				return err
			}
		}
		return nil
	})
	var all []string
	for _, e := range w.feed(t, w.tenant) {
		all = append(all, e.ID)
	}
	if !slices.Equal(seen, all) {
		t.Errorf("followed %d events, the feed has %d, or in another order", len(seen), len(all))
	}
}

// follow reads the feed from its end, again and again, until it has seen n events.
func follow(ctx context.Context, s *storage.Store, tenant string, n int) (seen []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // who missed one would wait forever
	defer cancel()
	for after := ""; len(seen) < n; {
		page, err := s.Events(ctx, storage.FeedFilter{TenantID: tenant, After: after}, 5)
		if err != nil {
			return seen, err
		}
		for _, e := range page.Data {
			after = e.ID
			seen = append(seen, e.ID)
		}
	}
	return seen, nil
}

func testLeases(w *world) {
	t := w.t
	group := w.pollGroup()
	want(t, "lease of a group without work", must(w.LeaseGroup(t.Context(), group, "a", time.Minute))(t), false)
	w.watch(t, "1")
	want(t, "due", fmt.Sprint(must(w.DueGroups(t.Context(), 10))(t)), fmt.Sprint([]storage.Group{group}))
	want(t, "overdue", must(w.Overdue(t.Context()))(t)[storage.PollGroup], w.clock.Now().Sub(start))
	want(t, "lease", must(w.LeaseGroup(t.Context(), group, "a", time.Minute))(t), true)
	want(t, "due while leased", len(must(w.DueGroups(t.Context(), 10))(t)), 0)
	for _, owner := range []string{"a", "b"} {
		want(t, "lease while leased", must(w.LeaseGroup(t.Context(), group, owner, time.Minute))(t), false)
	}
	want(t, "renew", must(w.RenewLease(t.Context(), group, "a", 2*time.Minute))(t), true)
	want(t, "renew another's", must(w.RenewLease(t.Context(), group, "b", time.Minute))(t), false)
	w.clock.advance(time.Minute)
	want(t, "lease while renewed", must(w.LeaseGroup(t.Context(), group, "b", time.Minute))(t), false)
	w.clock.advance(time.Minute)
	want(t, "due when it ran out", len(must(w.DueGroups(t.Context(), 10))(t)), 1)
	want(t, "lease when it ran out", must(w.LeaseGroup(t.Context(), group, "b", time.Minute))(t), true)

	_, err := w.ReleaseGroup(t.Context(), group, "a", storage.Pause{})
	wantError(t, "release another's", err, storage.ErrLeaseLost)
	_, err = w.TakePolls(t.Context(), storage.TakePolls{Group: group.ID, Owner: "a", Max: 1, Budget: storage.Budget{N: 1, Per: 1}})
	wantError(t, "take with another's lease", err, storage.ErrLeaseLost)
	_, err = w.DueDeliveries(t.Context(), storage.TakeDeliveries{Group: w.destination.ID, Owner: "a", Max: 1})
	wantError(t, "deliveries without a lease", err, storage.ErrLeaseLost)
	_, err = w.DueProgress(t.Context(), storage.TakeDeliveries{Group: w.destination.ID, Owner: "a", Max: 1})
	wantError(t, "progress without a lease", err, storage.ErrLeaseLost)

	later := w.clock.Now().Add(time.Hour)
	want(t, "next", must(w.ReleaseGroup(t.Context(), group, "b", storage.Pause{Until: later}))(t), later)
	want(t, "due before notBefore", len(must(w.DueGroups(t.Context(), 10))(t)), 0)
	w.watch(t, "2")
	want(t, "due with new work, before notBefore", len(must(w.DueGroups(t.Context(), 10))(t)), 0)
	want(t, "lease before notBefore", must(w.LeaseGroup(t.Context(), group, "a", time.Minute))(t), false)
	w.clock.advance(time.Hour)
	want(t, "due at notBefore", len(must(w.DueGroups(t.Context(), 10))(t)), 1)
	want(t, "lease at notBefore", must(w.LeaseGroup(t.Context(), group, "a", time.Minute))(t), true)
	want(t, "next", must(w.ReleaseGroup(t.Context(), group, "a", storage.Pause{}))(t), w.Steady())
	w.watch(t, "3")
	want(t, "due with new work", len(must(w.DueGroups(t.Context(), 10))(t)), 1)
}

// testOverdueWhileLeased: a shift that stays at a group is late with what waits there,
// and not with what it has done since it came.
func testOverdueWhileLeased(w *world) {
	t := w.t
	overdue := func(what string, poll, deliver time.Duration) {
		t.Helper()
		got := must(w.Overdue(t.Context()))(t)
		want(t, what+": polls", got[storage.PollGroup], poll)
		want(t, what+": deliveries", got[storage.DeliverGroup], deliver)
	}
	w.watch(t, "1")
	polls := w.take(t)
	w.lease(t, w.pollGroup())
	w.clock.advance(time.Minute)
	overdue("nothing is done", time.Minute, 0)
	w.end(t, polls[0], storage.WatchCompleted)
	due := w.deliveries(t, w.destination)[0]
	w.lease(t, deliverGroup(w.destination))
	w.clock.advance(time.Second)
	overdue("polled", 0, time.Second)
	w.record(t, w.attempt(due, storage.DeliverySucceeded, 0))
	w.clock.advance(time.Minute)
	overdue("delivered", 0, 0)
	w.watch(t, "2")
	w.clock.advance(2 * time.Second)
	overdue("polled again", 2*time.Second, 0)
	w.clock.advance(time.Hour)
	overdue("the holder has died", time.Hour+2*time.Second, 0)
}

// testDueOfEachKind: however many groups of one kind are due, those of the other are found.
func testDueOfEachKind(w *world) {
	t := w.t
	for range 3 {
		must(w.TestDestination(t.Context(), w.tenant, w.newWebhook(t, w.tenant, false).ID))(t)
	}
	w.clock.advance(time.Second)
	w.watch(t, "1")
	due := must(w.DueGroups(t.Context(), 2))(t)
	want(t, "due", len(due), 3)
	want(t, "due last", fmt.Sprint(due[2:]), fmt.Sprint([]storage.Group{w.pollGroup()}))
}

// testLeaseContention: of many who want a lease, one gets it.
func testLeaseContention(w *world) {
	t := w.t
	w.watch(t, "1")
	processes := []*storage.Store{w.Store, w.open(t)}
	for range 10 {
		var mu sync.Mutex
		var owners []string
		together(t, 6, func(ctx context.Context, i int) error {
			owner := strconv.Itoa(i)
			leased, err := processes[i%2].LeaseGroup(ctx, w.pollGroup(), owner, time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if leased {
				owners = append(owners, owner)
			}
			return err
		})
		if len(owners) != 1 {
			t.Fatalf("leased by %v", owners)
		}
		must(w.ReleaseGroup(t.Context(), w.pollGroup(), owners[0], storage.Pause{}))(t)
	}
}

// testNoWakeUpLost: a group is released while work for it is committed. After
// every round the group is due by the time its rows are.
func testNoWakeUpLost(w *world) {
	t := w.t
	other := w.open(t)
	w.watch(t, "0")
	for round := range 60 {
		polls := w.take(t)
		for _, poll := range polls {
			w.end(t, poll, storage.WatchCompleted)
		}
		w.lease(t, w.pollGroup())
		together(t, 3, func(ctx context.Context, i int) error {
			if i == 0 {
				_, err := other.ReleaseGroup(ctx, w.pollGroup(), "me", storage.Pause{})
				return err
			}
			_, err := w.CreateWatches(ctx, []storage.NewWatch{w.request(fmt.Sprintf("%d-%d", round, i))})
			return err
		})
		if !slices.Contains(must(w.DueGroups(t.Context(), 10))(t), w.pollGroup()) {
			t.Fatalf("round %d: operations are due, and their group is not", round)
		}
	}
}

func testOnDue(w *world) {
	t := w.t
	var mu sync.Mutex
	var told []storage.Group
	w.SetOnDue(func(groups []storage.Group) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, groups...)
	})
	expect := func(what string, groups ...storage.Group) {
		t.Helper()
		want(t, what, fmt.Sprint(told), fmt.Sprint(groups))
		told = nil
	}
	w.watch(t, "1")
	expect("registered", w.pollGroup())
	poll := w.take(t)[0]
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{{RowID: poll.RowID, At: start, Next: start.Add(time.Second)}}))
	expect("polled again later")
	w.end(t, poll, storage.WatchCompleted)
	expect("completed", deliverGroup(w.destination))
	failure := errors.New("no")
	err := w.Atomically(t.Context(), func(tx *storage.Store) error {
		if _, err := tx.CreateWatches(t.Context(), []storage.NewWatch{w.request("2")}); err != nil {
			return err
		}
		return failure
	})
	wantError(t, "atomically", err, failure)
	expect("rolled back")
	w.lease(t, w.pollGroup())
	must(w.ReleaseGroup(t.Context(), w.pollGroup(), "me", storage.Pause{Until: w.Steady().Add(time.Minute)}))(t)
	w.watch(t, "3")
	w.watch(t, "4")
	expect("registered for a budget that pauses")
	w.clock.advance(time.Minute)
	w.watch(t, "5")
	expect("registered when it has rested", w.pollGroup())
}

// testAtomically: nested calls are one transaction, and a change that failed
// inside spoils it even if nobody looks.
func testAtomically(w *world) {
	t := w.t
	for name, do := range map[string]func(tx *storage.Store) error{
		"fails": func(*storage.Store) error { return storage.ErrInUse },
		"ignores a failure": func(tx *storage.Store) error {
			_ = tx.ForceDeleteDestination(t.Context(), w.tenant, "destination_none")
			return nil
		},
	} {
		err := w.Atomically(t.Context(), func(tx *storage.Store) error {
			if _, err := tx.CreateWatches(t.Context(), []storage.NewWatch{w.request("1")}); err != nil {
				return err
			}
			return do(tx)
		})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	none := must(w.Watches(t.Context(), storage.WatchFilter{TenantID: w.tenant}, storage.Page{Limit: 5}))(t)
	want(t, "watches kept of failed transactions", len(none.Data), 0)
	check(t, w.Atomically(t.Context(), func(tx *storage.Store) error {
		made, err := tx.CreateWatches(t.Context(), []storage.NewWatch{w.request("1")})
		if err != nil {
			return err
		}
		_, err = tx.CancelWatch(t.Context(), w.tenant, made[0].ID)
		return err
	}))
	one := must(w.Watches(t.Context(), storage.WatchFilter{TenantID: w.tenant}, storage.Page{Limit: 5}))(t)
	want(t, "watches kept", len(one.Data), 1)
}

// testReclaim: what a dead process left behind is free at once.
func testReclaim(w *world) {
	t := w.t
	w.watch(t, "1")
	w.lease(t, w.pollGroup())
	key := storage.IdempotencyKey{TenantID: w.tenant, Key: "k", Fingerprint: []byte("f")}
	must(w.ReserveAnswer(t.Context(), key))(t)
	check(t, w.Reclaim(t.Context()))
	want(t, "due", len(must(w.DueGroups(t.Context(), 10))(t)), 1)
	want(t, "answer", must(w.ReserveAnswer(t.Context(), key))(t), nil)
	check(t, w.KeepAnswer(t.Context(), key, storage.Answer{Status: 201}))
	check(t, w.Reclaim(t.Context()))
	want(t, "kept answer", must(w.ReserveAnswer(t.Context(), key))(t).Status, 201)
}
