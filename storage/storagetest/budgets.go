package storagetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"oprelay/storage"
)

// testBudgetNeverExceeded: three takers, a clock that goes on by odd steps and
// is set back at times. In no window are more requests granted than the budget,
// even if each is sent up to a tenth of a window late.
func testBudgetNeverExceeded(w *world) {
	t := w.t
	budget := storage.Budget{N: 12, Per: 5 * time.Minute}
	var requests []storage.NewWatch
	for i := range 400 {
		requests = append(requests, w.request(strconv.Itoa(i)))
	}
	must(w.CreateWatches(t.Context(), requests))(t)
	w.lease(t, w.pollGroup())
	processes := []*storage.Store{w.Store, w.open(t), w.Store}
	var mu sync.Mutex
	taken := map[string]bool{}
	var grants []time.Duration // in time that was never set back
	elapsed := time.Duration(0)
	for round := range 60 {
		granted := 0
		together(t, len(processes), func(ctx context.Context, i int) error {
			mu.Lock()
			exclude := make(map[string]bool, len(taken))
			for id := range taken {
				exclude[id] = true
			}
			mu.Unlock()
			polls, _, err := processes[i].TakePolls(ctx, storage.TakePolls{
				Group: w.credential.BudgetID, Owner: "me", Budget: budget, Max: 5, Exclude: exclude, MinInterval: time.Second,
			})
			mu.Lock()
			defer mu.Unlock()
			for _, p := range polls {
				taken[p.RowID] = true
			}
			granted += len(polls)
			return err
		})
		for range granted {
			grants = append(grants, elapsed)
		}
		step := time.Duration(7+round%23) * time.Second
		elapsed += step
		switch round {
		case 20:
			w.clock.advance(-4 * time.Minute)
		case 40:
			w.clock.advance(-3 * time.Hour)
		default:
			w.clock.advance(step)
		}
		check(t, renew(t.Context(), w))
	}
	for i := range grants {
		inWindow := 0
		for _, g := range grants[i:] {
			if g-grants[i] <= budget.Per+budget.Per/10 {
				inWindow++
			}
		}
		if inWindow > budget.N {
			t.Fatalf("%d requests from %v on, the budget is %d", inWindow, grants[i], budget.N)
		}
	}
	if len(grants) < 2*budget.N {
		t.Errorf("only %d requests in %v", len(grants), elapsed)
	}
}

func renew(ctx context.Context, w *world) error {
	_, err := w.RenewLease(ctx, w.pollGroup(), "me", 24*time.Hour)
	return err
}

// testBudgetHints: the upstream's own count, a lock-out, and when there is more.
func testBudgetHints(w *world) {
	t := w.t
	for i := range 30 {
		w.watch(t, strconv.Itoa(i))
	}
	w.lease(t, w.pollGroup())
	budget := storage.Budget{N: 10, Per: 10 * time.Minute}
	take := func(limit, wantPolls int, wantNext time.Time) {
		t.Helper()
		polls, next, err := w.TakePolls(t.Context(), storage.TakePolls{
			Group: w.credential.BudgetID, Owner: "me", Budget: budget, Max: limit, MinInterval: time.Second,
		})
		check(t, err)
		want(t, "polls", len(polls), wantPolls)
		want(t, "not before", next, wantNext)
		check(t, renew(t.Context(), w))
	}
	id := w.credential.BudgetID
	check(t, w.HintBudget(t.Context(), id, 3, start.Add(time.Minute)))
	check(t, w.HintBudget(t.Context(), id, 50, start.Add(time.Hour))) // higher: does not count
	take(2, 2, time.Time{})
	take(2, 1, start.Add(time.Minute))
	w.clock.advance(time.Minute)
	check(t, w.ParkBudget(t.Context(), id, start.Add(3*time.Minute)))
	take(2, 0, start.Add(3*time.Minute))
	w.clock.advance(2 * time.Minute)
	take(20, 7, start.Truncate(time.Minute).Add(12*time.Minute))
	w.clock.advance(8 * time.Minute)
	take(20, 0, start.Truncate(time.Minute).Add(12*time.Minute))
	w.clock.advance(time.Minute)
	take(20, 3, start.Truncate(time.Minute).Add(15*time.Minute))
}

// testBudgetOrder: the young come first, and the old do not starve.
func testBudgetOrder(w *world) {
	t := w.t
	w.watch(t, "old")
	poll := w.take(t)[0]
	record := func(next time.Duration) {
		t.Helper()
		check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
			RowID: poll.RowID, At: w.clock.Now(), Next: w.clock.Now().Add(next),
		}}))
	}
	record(time.Minute)
	w.clock.advance(time.Minute + time.Second)
	w.watch(t, "young")
	first := func() string {
		t.Helper()
		return w.take(t)[0].OperationID
	}
	w.clock.advance(2 * time.Second)
	want(t, "first", first(), "young")
	w.clock.advance(time.Hour)
	want(t, "rows", len(w.take(t)), 2)

	// A young one that has waited its second competes with an old one that has
	// waited its minute many times over.
	for _, p := range w.take(t) {
		if p.OperationID == "young" {
			poll = p
		}
	}
	record(time.Second)
	w.clock.advance(time.Second)
	want(t, "first", first(), "old")
}

// testYoungFirst: a backlog that no budget works off keeps neither the newest
// operation waiting nor the oldest.
func testYoungFirst(w *world) {
	t := w.t
	oldest := w.watch(t, "0")
	for i := range 40 {
		w.clock.advance(time.Second)
		w.watch(t, strconv.Itoa(i+1))
	}
	w.clock.advance(time.Second)
	newest := w.watch(t, "new")
	w.lease(t, w.pollGroup())
	polls, _, err := w.TakePolls(t.Context(), storage.TakePolls{
		Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 1000, Per: time.Minute}, Max: 4, MinInterval: time.Second,
	})
	check(t, err)
	var ids []string
	for _, p := range polls {
		ids = append(ids, p.OperationID)
	}
	for _, w := range []storage.Watch{oldest, newest} {
		want(t, fmt.Sprint(w.Operation.ID, " among ", ids), slices.Contains(ids, w.Operation.ID), true)
	}
	want(t, "polls", len(ids), 4)
}

// testBacklog: however large the backlog, the youngest come at once, what has been
// due for longest comes next, whatever its interval, and nothing is given out twice.
func testBacklog(w *world) {
	t := w.t
	const backlog, places = 500, 20
	for age := range 5 {
		requests := make([]storage.NewWatch, backlog/5)
		for i := range requests {
			requests[i] = w.request(fmt.Sprint(age, "-", i))
		}
		must(w.CreateWatches(t.Context(), requests))(t)
		w.clock.advance(time.Second)
	}
	first := w.take(t)
	slices.SortStableFunc(first, func(a, b storage.DuePoll) int { return a.CreatedAt.Compare(b.CreatedAt) })
	results := make([]storage.PollResult, len(first))
	for i, p := range first { // all are due again within the next minutes, one by one
		results[i] = storage.PollResult{RowID: p.RowID, At: w.clock.Now(), Next: w.clock.Now().Add(time.Duration(i) * time.Second)}
	}
	check(t, w.RecordPolls(t.Context(), results))
	w.clock.advance(backlog * time.Second)
	w.watch(t, "young")
	w.lease(t, w.pollGroup())
	taken := map[string]bool{}
	for round := range backlog / places {
		polls, _, err := w.TakePolls(t.Context(), storage.TakePolls{
			Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 1 << 30, Per: time.Minute},
			Max: places, Exclude: maps.Clone(taken), MinInterval: time.Second,
		})
		check(t, err)
		want(t, "polls", len(polls), places)
		var ids []string
		for _, p := range polls {
			want(t, p.OperationID+" taken before", taken[p.RowID], false)
			taken[p.RowID] = true
			ids = append(ids, p.OperationID)
		}
		if round == 0 {
			want(t, fmt.Sprint("the youngest among ", ids), slices.Contains(ids, "young"), true)
		}
		// Half of all places, of which the ranking may pass over as many once.
		if longest := first[round*places/4].RowID; !taken[longest] {
			t.Fatalf("after %d rounds %s, which has been due for long, was not taken", round+1, longest)
		}
	}
}
