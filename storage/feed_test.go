package storage_test

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"oprelay/storage"
)

// follow reads a part of the feed to its end, page by page, and returns the ids.
func (w *world) follow(f storage.FeedFilter, limit int) (ids []string) {
	w.t.Helper()
	f.TenantID = w.tenant
	for {
		page := must(w.Events(w.t.Context(), f, limit))(w.t)
		for _, e := range page.Data {
			ids = append(ids, e.ID)
		}
		if page.Next == "" {
			return ids
		}
		f.After, f.Since = page.Next, time.Time{}
	}
}

// The feed begins with the first event of a time, whatever is in it, also where times do not
// follow its order; and shows one type alone.
func testFeedParts(w *world) {
	t, ctx := w.t, w.t.Context()
	if got := w.follow(storage.FeedFilter{Since: start}, 5); len(got) != 0 {
		t.Errorf("before there is any: %v", got)
	}
	place, id, err := w.FeedEnd(ctx, w.tenant)
	if err != nil || place != 0 || id != storage.FeedStart {
		t.Errorf("an empty feed ends at %d, %s, %v", place, id, err)
	}
	var made []storage.Event
	for i := range 40 {
		switch i % 10 {
		case 7: // by a process whose clock is late
			w.clock.set(-4 * time.Second)
		case 8:
			w.clock.set(4 * time.Second)
		default:
			w.clock.advance(time.Duration(i) * time.Second)
		}
		if i%8 == 3 {
			must(w.DisableDestination(ctx, w.tenant, w.destination.ID, storage.DisabledGone))(t)
			must(w.EnableDestination(ctx, w.tenant, w.destination.ID))(t)
		} else {
			must(w.TestDestination(ctx, w.tenant, w.destination.ID))(t)
		}
		all := must(w.Events(ctx, storage.FeedFilter{TenantID: w.tenant}, 200))(t).Data
		made = append(made, all[len(all)-1])
	}
	idsFrom := func(i int) (ids []string) {
		for ; i < len(made); i++ {
			ids = append(ids, made[i].ID)
		}
		return ids
	}
	for _, offset := range []time.Duration{-time.Microsecond, 0, time.Microsecond, time.Second} {
		for _, e := range made {
			since := e.CreatedAt.Add(offset)
			first := slices.IndexFunc(made, func(e storage.Event) bool { return !e.CreatedAt.Before(since) })
			if first < 0 {
				first = len(made)
			}
			if got, want := w.follow(storage.FeedFilter{Since: since}, 7), idsFrom(first); !slices.Equal(got, want) {
				t.Fatalf("since %s: %d events, want %d", since, len(got), len(want))
			}
		}
	}
	var disabled []string
	for i, e := range made {
		if i%8 == 3 {
			disabled = append(disabled, e.ID)
		}
	}
	if got := w.follow(storage.FeedFilter{Type: storage.EventDestinationDisabled}, 2); !slices.Equal(got, disabled) {
		t.Errorf("of a type: %v, want %v", got, disabled)
	}
	if got := w.follow(storage.FeedFilter{Type: storage.EventDestinationDisabled, After: made[3].ID}, 2); !slices.Equal(got, disabled[1:]) {
		t.Errorf("of a type, after one: %v, want %v", got, disabled[1:])
	}
	if got := w.follow(storage.FeedFilter{After: storage.FeedStart}, 100); !slices.Equal(got, idsFrom(0)) {
		t.Errorf("from the start: %v", got)
	}
	w.checkPlaces(made)
}

// checkPlaces: each event has a place in the feed of its tenant, and in no other.
func (w *world) checkPlaces(made []storage.Event) {
	w.t.Helper()
	t, ctx := w.t, w.t.Context()
	for i, e := range made {
		if place := must(w.FeedPlace(ctx, w.tenant, e.ID))(t); place != int64(i+1) || e.Seq != place {
			t.Errorf("event %d is at %d, and says %d", i, place, e.Seq)
		}
	}
	other := must(w.EnsureTenant(ctx, "other"))(t).ID
	if _, err := w.FeedPlace(ctx, other, made[0].ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("another's event: %v", err)
	}
	last := made[len(made)-1]
	seq, id, err := w.FeedEnd(ctx, w.tenant)
	if err != nil || seq != last.Seq || id != last.ID {
		t.Errorf("the feed ends at %d, %s, %v", seq, id, err)
	}
	ends := must(w.FeedEnds(ctx, []string{w.tenant, other, "tenant_none"}))(t)
	if fmt.Sprint(ends) != fmt.Sprint(map[string]int64{w.tenant: last.Seq, other: 0}) {
		t.Errorf("the feeds end at %v", ends)
	}
}

// What commits change is told: what begins, moves and ends, and of which tenants events are.
func testChanges(w *world) {
	t, ctx := w.t, w.t.Context()
	var told []storage.Changes
	w.SetOnChange(func(c storage.Changes) { told = append(told, c) })
	expect := func(what string, events, watches, operations int) {
		t.Helper()
		if len(told) != 1 || len(told[0].Events) != events || len(told[0].Watches) != watches || len(told[0].Operations) != operations {
			t.Errorf("%s: told %+v", what, told)
		}
		for _, c := range told {
			for _, changed := range slices.Concat(c.Watches, c.Operations) {
				if changed.TenantID != w.tenant {
					t.Errorf("%s: of another tenant: %v", what, changed)
				}
			}
			for _, id := range c.Events {
				if id != w.tenant {
					t.Errorf("%s: events of %s", what, id)
				}
			}
		}
		told = nil
	}
	watches := must(w.CreateWatches(ctx, []storage.NewWatch{w.request("1"), w.request("2"), w.request("1")}))(t)
	expect("begun", 0, 3, 0)
	polls := w.take(t)
	result := func(i int, status, end string) []storage.PollResult {
		return []storage.PollResult{{RowID: polls[i].RowID, At: w.Steady(), Next: w.Steady().Add(time.Minute), Status: status, End: end}}
	}
	check(t, w.RecordPolls(ctx, result(0, storage.OperationRunning, "")))
	moved := told[0].Operations[0].ID
	expect("moved", 0, 0, 1)
	open := must(w.OpenWatchesOf(ctx, w.tenant, []string{moved}, 9))(t)
	if moved != polls[0].RowID || len(open) == 0 || open[0].Operation.Status != storage.OperationRunning {
		t.Errorf("moved: %s, %+v", moved, open)
	}
	check(t, w.RecordPolls(ctx, result(0, storage.OperationRunning, "")))
	if len(told) != 0 {
		t.Errorf("as before: told %+v", told)
	}
	check(t, w.RecordPolls(ctx, result(0, storage.OperationCompleted, storage.WatchCompleted)))
	ended := len(open)
	expect("ended", 1, ended, 0)
	for _, watch := range watches {
		if !slices.ContainsFunc(open, func(o storage.Watch) bool { return o.ID == watch.ID }) {
			must(w.CancelWatch(ctx, w.tenant, watch.ID))(t)
			expect("canceled", 0, 1, 0)
			must(w.CancelWatch(ctx, w.tenant, watch.ID))(t)
			if len(told) != 0 {
				t.Errorf("canceled again: told %+v", told)
			}
		}
	}
	ids := []string{watches[0].ID, watches[1].ID, "watch_none"}
	if found := must(w.WatchesOf(ctx, w.tenant, ids))(t); len(found) != 2 || len(found[0].DestinationIDs) == 0 {
		t.Errorf("%+v", found)
	}
	if found := must(w.WatchesOf(ctx, "tenant_other", ids))(t); len(found) != 0 {
		t.Errorf("of another tenant: %+v", found)
	}
}
