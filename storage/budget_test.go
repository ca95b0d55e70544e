package storage_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
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
			got, err := processes[i].TakePolls(ctx, storage.TakePolls{
				Group: w.credential.BudgetID, Owner: "me", Budget: budget, Max: 5, Exclude: exclude, Intervals: intervals(),
			})
			mu.Lock()
			defer mu.Unlock()
			for _, p := range got.Polls {
				taken[p.RowID] = true
			}
			granted += len(got.Polls)
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
	if len(grants) <= budget.N {
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
	w.polledOnce(t, 30)
	begin := w.clock.Now()
	w.lease(t, w.pollGroup())
	budget := storage.Budget{N: 10, Per: 10 * time.Minute}
	take := func(limit, wantPolls int, wantNext time.Time) {
		t.Helper()
		taken, err := w.TakePolls(t.Context(), storage.TakePolls{
			Group: w.credential.BudgetID, Owner: "me", Budget: budget, Max: limit, Intervals: intervals(),
		})
		check(t, err)
		want(t, "polls", len(taken.Polls), wantPolls)
		want(t, "not before", taken.Pause.Until, wantNext)
		for _, p := range taken.Polls {
			want(t, "hinted", p.Hinted, w.Steady().Before(begin.Add(time.Minute)))
		}
		check(t, renew(t.Context(), w))
	}
	id := w.credential.BudgetID
	check(t, w.HintBudget(t.Context(), id, 0, begin.Add(time.Hour)))
	take(2, 0, begin.Add(time.Hour))
	check(t, w.HintBudget(t.Context(), id, 3, begin.Add(time.Minute))) // the later one holds
	take(2, 2, time.Time{})
	take(2, 1, begin.Add(time.Minute)) // of so little nothing is kept for first polls
	w.clock.advance(time.Minute)
	check(t, w.ParkBudget(t.Context(), id, begin.Add(3*time.Minute)))
	take(2, 0, begin.Add(3*time.Minute))
	w.clock.advance(2 * time.Minute)
	take(20, 6, begin.Truncate(time.Minute).Add(12*time.Minute))
	w.clock.advance(8 * time.Minute)
	take(20, 0, begin.Truncate(time.Minute).Add(12*time.Minute))
	w.clock.advance(time.Minute)
	take(20, 3, begin.Truncate(time.Minute).Add(15*time.Minute))
}

// polledOnce registers n operations that were polled for the first time an hour ago, by a
// budget that has forgotten it, and are due now.
func (w *world) polledOnce(t *testing.T, n int) {
	t.Helper()
	requests := make([]storage.NewWatch, n)
	for i := range requests {
		requests[i] = w.request(strconv.Itoa(i))
	}
	must(w.CreateWatches(t.Context(), requests))(t)
	polls := w.take(t)
	want(t, "first polls", len(polls), n)
	results := make([]storage.PollResult, n)
	for i, p := range polls {
		results[i] = storage.PollResult{RowID: p.RowID, At: w.clock.Now(), Next: w.clock.Now().Add(time.Hour)}
	}
	check(t, w.RecordPolls(t.Context(), results))
	w.clock.advance(time.Hour)
}

// testContemporaries: where polls are scarce, an end has what began at the same time polled before
// it is due, with half of what is left of the budget.
func testContemporaries(w *world) {
	t := w.t
	var requests []storage.NewWatch
	for i := range 20 {
		requests = append(requests, w.request(strconv.Itoa(i)))
	}
	must(w.CreateWatches(t.Context(), requests))(t)
	began := w.Steady()
	var results []storage.PollResult
	for _, p := range w.take(t) {
		results = append(results, storage.PollResult{RowID: p.RowID, At: began, Next: began.Add(5 * time.Minute)})
	}
	check(t, w.RecordPolls(t.Context(), results))
	w.clock.advance(time.Minute)
	ended := make([]storage.DuePoll, 10)
	for i := range ended {
		ended[i] = storage.DuePoll{CreatedAt: began, LastPolledAt: w.Steady()}
	}
	w.lease(t, w.pollGroup())
	taken := must(w.TakePolls(t.Context(), storage.TakePolls{
		Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 40, Per: 10 * time.Minute}, Max: 100,
		Intervals: intervals(), Ended: ended,
	}))(t)
	want(t, "polls of 20 that are left", len(taken.Polls), 10)
}

// testLagOfNothing: what a plan had operations wait says nothing once none is left.
func testLagOfNothing(w *world) {
	t := w.t
	w.polledOnce(t, 30)
	w.lease(t, w.pollGroup())
	budget := storage.Budget{N: 10, Per: 10 * time.Minute}
	must(w.TakePolls(t.Context(), storage.TakePolls{
		Group: w.credential.BudgetID, Owner: "me", Budget: budget, Max: 5, Intervals: intervals(),
	}))(t)
	lag := func() float64 {
		return must(w.BudgetState(t.Context(), w.credential.BudgetID, budget, intervals()))(t).Lag
	}
	// An even share is thrice twelve minutes, and none waits for longer than two.
	if got, longest := lag(), 2*3*12.0; got <= intervals().Lag || got > longest {
		t.Errorf("the lag of 30 operations is %v, want more than there is for one and %v at most", got, longest)
	}
	for _, watch := range must(w.Watches(t.Context(), storage.WatchFilter{TenantID: w.tenant}, storage.Page{Limit: 100}))(t).Data {
		must(w.CancelWatch(t.Context(), w.tenant, watch.ID))(t)
	}
	want(t, "lag of none", lag(), intervals().Lag)
}

// testSmallestBudget: of one request nothing is kept for operations that are to come.
func testSmallestBudget(w *world) {
	t := w.t
	w.polledOnce(t, 1)
	w.lease(t, w.pollGroup())
	for round := range 3 {
		taken := must(w.TakePolls(t.Context(), storage.TakePolls{
			Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 1, Per: time.Minute}, Max: 10, Intervals: intervals(),
		}))(t)
		want(t, fmt.Sprint("polls in round ", round), len(taken.Polls), 1)
		check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
			RowID: taken.Polls[0].RowID, At: w.clock.Now(), Next: w.clock.Now().Add(time.Second),
		}}))
		w.clock.advance(2 * time.Minute)
		check(t, renew(t.Context(), w))
	}
}

// testPlanEnds: what waited for a scarce budget, whatever its last answer was, does so no
// longer when the budget has room, be it another token's.
func testPlanEnds(w *world) {
	t := w.t
	requests := make([]storage.NewWatch, 40)
	for i := range requests {
		requests[i] = w.request(strconv.Itoa(i))
	}
	watches := must(w.CreateWatches(t.Context(), requests))(t)
	take := func(n int) storage.TakenPolls {
		t.Helper()
		w.lease(t, w.pollGroup())
		defer w.release(t, w.pollGroup())
		return must(w.TakePolls(t.Context(), storage.TakePolls{
			Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: n, Per: 5 * time.Minute}, Max: 1000, Intervals: intervals(),
		}))(t)
	}
	first := take(24).Polls
	want(t, "first polls", len(first), 3)
	var results []storage.PollResult
	for _, p := range first {
		results = append(results, storage.PollResult{
			RowID: p.RowID, At: w.clock.Now(), Next: w.clock.Now().Add(p.Plan.After(intervals(), p.OperationID, 1, 0)),
			Problem: "HTTP 500", Held: true,
		})
	}
	check(t, w.RecordPolls(t.Context(), results))
	held := func() (n int, longest time.Duration) {
		t.Helper()
		for _, watch := range watches {
			now := w.reload(t, watch)
			if now.HeldBy == storage.HeldByBudget {
				n++
			}
			longest = max(longest, now.NextPollAt.Sub(w.clock.Now()))
		}
		return n, longest
	}
	if n, longest := held(); n != 40 || longest < time.Minute {
		t.Fatalf("%d are held, for %v at the longest", n, longest)
	}
	w.replace(t, "another")
	w.clock.advance(2 * time.Second)
	take(100_000)
	if n, longest := held(); n != 0 || longest > 2*time.Second {
		t.Errorf("%d are held, for %v at the longest", n, longest)
	}
}

// testLongPlanIsForgotten: what was planned among a thousand is due earlier when few are left,
// also what is due last of all.
func testLongPlanIsForgotten(w *world) {
	t := w.t
	const all, left = 1000, 150
	requests := make([]storage.NewWatch, all)
	for i := range requests {
		requests[i] = w.request(strconv.Itoa(i))
	}
	watches := must(w.CreateWatches(t.Context(), requests))(t)
	budget := storage.Budget{N: 24, Per: 5 * time.Minute}
	take := func() {
		t.Helper()
		w.lease(t, w.pollGroup())
		defer w.release(t, w.pollGroup())
		must(w.TakePolls(t.Context(), storage.TakePolls{
			Group: w.credential.BudgetID, Owner: "me", Budget: budget, Max: 1000, Intervals: intervals(),
		}))(t)
		w.clock.advance(15 * time.Second)
	}
	longest := func() (longest time.Duration) {
		t.Helper()
		for _, watch := range watches[:left] {
			longest = max(longest, w.reload(t, watch).NextPollAt.Sub(w.clock.Now()))
		}
		return longest
	}
	take()
	// Nobody waits for longer than two even shares, but for jitter and small changes of a plan.
	most := 2 * left * budget.Per * 12 / 10 / 24 * 13 / 10
	if before := longest(); before < 2*most {
		t.Fatalf("among all none waits for longer than %v", before)
	}
	for _, watch := range watches[left:] {
		must(w.CancelWatch(t.Context(), w.tenant, watch.ID))(t)
	}
	for range 8 {
		take()
	}
	if after := longest(); after > most {
		t.Errorf("among those left one waits for %v, want %v at most", after, most)
	}
}

// testOnlyOneIsLeft: what was planned when it was registered, by a plan for operations that have
// ended, is planned anew soon; also if the steady time went back meanwhile.
func testOnlyOneIsLeft(w *world) {
	t := w.t
	const all = 1010 // more than a plan reads, so that the next one waits
	budget := storage.Budget{N: 24, Per: time.Hour}
	take := func() (polled int) {
		t.Helper()
		w.lease(t, w.pollGroup())
		defer w.release(t, w.pollGroup())
		return len(must(w.TakePolls(t.Context(), storage.TakePolls{
			Group: w.credential.BudgetID, Owner: "me", Budget: budget, Max: 1000, Intervals: intervals(),
		}))(t).Polls)
	}
	requests := make([]storage.NewWatch, all)
	for i := range requests {
		requests[i] = w.request(strconv.Itoa(i))
	}
	watches := must(w.CreateWatches(t.Context(), requests))(t)
	want(t, "first polls", take(), 3)
	for _, watch := range watches {
		must(w.CancelWatch(t.Context(), w.tenant, watch.ID))(t)
	}
	w.clock.advance(2 * time.Second)
	take() // plans nothing: it is too early
	one := must(w.CreateWatches(t.Context(), []storage.NewWatch{w.request("one")}))(t)[0]
	want(t, "held by", one.HeldBy, storage.HeldByBudget)
	w.clock.advance(11 * time.Second)
	want(t, "its group is due", slices.Contains(must(w.DueGroups(t.Context(), 10))(t), w.pollGroup()), true)
	polled := take()
	w.clock.advance(2 * time.Second)
	want(t, "polls", polled+take(), 1)

	w.clock.advance(-24 * time.Hour)
	take()
	again := must(w.CreateWatches(t.Context(), []storage.NewWatch{w.request("again")}))(t)[0]
	want(t, "held by", again.HeldBy, "")
}

// testPlannedWhenRegistered: while a budget affords no more first polls at once, what is
// registered is planned with it, and wakes nobody.
func testPlannedWhenRegistered(w *world) {
	t := w.t
	requests := make([]storage.NewWatch, 40)
	for i := range requests {
		requests[i] = w.request(strconv.Itoa(i))
	}
	must(w.CreateWatches(t.Context(), requests))(t)
	w.lease(t, w.pollGroup())
	budget := storage.Budget{N: 24, Per: 5 * time.Minute}
	take := storage.TakePolls{Group: w.credential.BudgetID, Owner: "me", Budget: budget, Max: 1000, Intervals: intervals()}
	want(t, "first polls", len(must(w.TakePolls(t.Context(), take))(t).Polls), 3)
	woken := 0
	w.SetOnDue(func(due []storage.Group) { woken += len(due) })
	planned := must(w.CreateWatches(t.Context(), []storage.NewWatch{w.request("planned")}))(t)[0]
	want(t, "held by", planned.HeldBy, storage.HeldByBudget)
	if wait := planned.NextPollAt.Sub(w.clock.Now()); wait <= 0 || wait > 40*budget.Per/24*3/2 {
		t.Errorf("it is polled after %v", wait)
	}
	want(t, "as the list says", w.reload(t, planned).NextPollAt, planned.NextPollAt)
	want(t, "groups woken", woken, 0)
	w.clock.advance(budget.Slot())
	again := must(w.CreateWatches(t.Context(), []storage.NewWatch{w.request("again")}))(t)[0]
	want(t, "held by", again.HeldBy, "")
	want(t, "polled at", again.NextPollAt, w.clock.Now().UTC().Truncate(time.Microsecond))
	want(t, "groups woken", woken, 1)
}

// testBudgetOrder: what has been due for longest comes first, but half of the places are
// for first polls.
func testBudgetOrder(w *world) {
	t := w.t
	w.polledOnce(t, 1)
	w.clock.advance(time.Minute)
	w.watch(t, "young")
	w.lease(t, w.pollGroup())
	first := func(most int, exclude map[string]bool) (ids []string) {
		t.Helper()
		taken := must(w.TakePolls(t.Context(), storage.TakePolls{
			Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 1000, Per: time.Minute}, Max: most, Exclude: exclude,
		}))(t)
		for _, p := range taken.Polls {
			ids = append(ids, p.OperationID)
		}
		return ids
	}
	want(t, "one place", fmt.Sprint(first(1, nil)), "[young]")
	want(t, "two places", fmt.Sprint(first(2, nil)), "[young 0]")
	want(t, "three places", fmt.Sprint(first(3, nil)), "[young 0]")
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
	taken, err := w.TakePolls(t.Context(), storage.TakePolls{
		Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 1000, Per: time.Minute}, Max: 4, Intervals: intervals(),
	})
	check(t, err)
	var ids []string
	for _, p := range taken.Polls {
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
		got, err := w.TakePolls(t.Context(), storage.TakePolls{
			Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 1 << 30, Per: time.Minute},
			Max: places, Exclude: maps.Clone(taken), Intervals: intervals(),
		})
		check(t, err)
		want(t, "polls", len(got.Polls), places)
		var ids []string
		for _, p := range got.Polls {
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
