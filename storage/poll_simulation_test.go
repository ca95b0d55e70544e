//go:build !race

// What it simulates takes twenty times as long with the race detector, which has the other
// tests to look at: make test runs it without.

package storage

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// simulated is a case of what a budget may have to be spent on.
type simulated struct {
	operations int
	every      time.Duration // between two registrations on average (Poisson); 0 is all at once
	requests   int           // of the budget in five minutes
	seeds      int
	// most is how many times the mean of the best fixed share the plan's may be.
	most float64
}

func (s simulated) String() string {
	if s.every == 0 {
		return fmt.Sprintf("%d at once, %d requests", s.operations, s.requests)
	}
	return fmt.Sprintf("%d, one every %v, %d requests", s.operations, s.every, s.requests)
}

func (s simulated) budget() Budget { return Budget{N: s.requests, Per: 5 * time.Minute} }

// simulatedOperation begins and ends, in seconds from the start.
type simulatedOperation struct{ began, lasts float64 }

// draw makes operations whose durations are log-normal: a minute in the median, a
// second at least and an hour at most.
func (s simulated) draw(seed int) []simulatedOperation {
	random := rand.New(rand.NewPCG(uint64(seed), 7))
	all, at := make([]simulatedOperation, s.operations), 0.0
	for i := range all {
		at += random.ExpFloat64() * s.every.Seconds()
		all[i] = simulatedOperation{at, min(max(60*math.Exp(1.3*random.NormFloat64()), 1), 3600)}
	}
	return all
}

// outcome is what a way of polling comes to.
type outcome struct {
	lags    []float64 // (noticed - ended) / duration of each operation
	asked   []float64 // when each request was sent
	blind   float64   // the longest time in which an operation was not polled
	dry     float64   // the longest time without a poll while half of the operations were watched
	watched int
}

func (o *outcome) poll(at, last float64) {
	if k := len(o.asked); k > 0 && o.watched > 0 {
		o.dry = max(o.dry, at-o.asked[k-1])
	}
	o.asked, o.blind = append(o.asked, at), max(o.blind, at-last)
}

func (o *outcome) mean() float64 {
	sum := 0.0
	for _, lag := range o.lags {
		sum += lag
	}
	return sum / float64(len(o.lags))
}

func (o *outcome) quantile(q float64) float64 {
	slices.Sort(o.lags)
	return o.lags[min(int(q*float64(len(o.lags))), len(o.lags)-1)]
}

// most is the number of requests in the worst window.
func (o *outcome) most(window time.Duration) (most int) {
	slices.Sort(o.asked)
	first := 0
	for i, at := range o.asked {
		for at-o.asked[first] >= window.Seconds() {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func (o *outcome) add(other *outcome) {
	o.lags = append(o.lags, other.lags...)
	o.blind, o.dry = max(o.blind, other.blind), max(o.dry, other.dry)
}

var defaultIntervals = Intervals{Lag: 0.1, Min: time.Second, Max: time.Minute}

// planned polls the operations by the real plan, claims and records, on a clock of its own.
func (s simulated) planned(t *testing.T, operations []simulatedOperation) *outcome {
	t.Helper()
	ctx, start := t.Context(), time.Date(2026, 11, 23, 10, 0, 7, 0, time.UTC)
	now := 0.0
	clock := func() time.Time {
		return start.Add(time.Duration(now * float64(time.Second))).Truncate(time.Microsecond)
	}
	seconds := func(at time.Time) float64 { return at.Sub(start).Seconds() }
	store := get(Open(ctx, Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "relay.db"), Keys: get(seal.ParseKeyring(seal.NewKey()))(t), Now: clock}))(t)
	defer func() { _ = store.Close() }()
	get(store.Migrate(ctx))(t)
	tenant := get(store.EnsureTenant(ctx, "t"))(t)
	credential := get(store.CreateCredential(ctx, NewCredential{TenantID: tenant.ID, Upstream: "cloudflare", Name: "c", Secret: CredentialSecret{APIToken: "x"}}))(t)
	group := Group{PollGroup, credential.BudgetID}
	result, next, open, leased := &outcome{}, 0, 0, -math.MaxFloat64
	var ended []DuePoll
	for next < len(operations) || open > 0 {
		var come []NewWatch
		for ; next < len(operations) && operations[next].began <= now; next++ {
			come = append(come, NewWatch{
				TenantID: tenant.ID, Source: "cloudflare.lists", Upstream: "cloudflare", Params: map[string]string{"account_id": "a"}, OperationID: strconv.Itoa(next), CredentialID: credential.ID,
				Timeout: 30 * 24 * time.Hour, Events: []string{EventOperationCompleted},
			})
		}
		if len(come) > 0 {
			get(store.CreateWatches(ctx, come))(t)
			open += len(come)
		}
		if next == 0 {
			now = operations[0].began
			continue
		}
		if now-leased > 3600 {
			if leased < 0 {
				get(store.LeaseGroup(ctx, group, "me", 3*time.Hour))(t)
			} else {
				get(store.RenewLease(ctx, group, "me", 3*time.Hour))(t)
			}
			leased = now
		}
		taken := get(store.TakePolls(ctx, TakePolls{
			Group: group.ID, Owner: "me", Budget: s.budget(), Max: 1000, Intervals: defaultIntervals, Ended: ended,
		}))(t)
		ended = nil
		var results []PollResult
		result.watched = max(2*open-s.operations, 0)
		for _, p := range taken.Polls {
			o := operations[get(strconv.Atoi(p.OperationID))(t)]
			age := now - o.began
			result.poll(now, seconds(latest(p.LastPolledAt, p.CreatedAt)))
			r := PollResult{RowID: p.RowID, At: clock(), Status: OperationRunning, Held: p.Plan.Scarce(), CredentialAccepted: true}
			r.Next = r.At.Add(p.Plan.After(defaultIntervals, p.OperationID, p.Polls+1, r.At.Sub(p.CreatedAt)))
			if age >= o.lasts {
				r.Status, r.End = OperationCompleted, WatchCompleted
				result.lags = append(result.lags, (age-o.lasts)/o.lasts)
				p.LastPolledAt = r.At
				open--
				if p.Plan.Scarce() {
					ended = append(ended, p)
				}
			}
			results = append(results, r)
		}
		if len(results) > 0 {
			check(t, store.RecordPolls(ctx, results))
		}
		wake := math.Inf(1)
		if next < len(operations) {
			wake = operations[next].began
		}
		if due := get(sqldb.One(ctx, store.db, scanDueTime, `SELECT MIN(due_at) FROM open_operations`))(t); !due.IsZero() {
			wake = min(wake, seconds(latest(due, taken.Pause.Until)))
		}
		if len(ended) > 0 {
			wake = min(wake, now+0.2)
		}
		now = max(wake, now+0.05)
	}
	return result
}

func scanDueTime(row sqldb.Row) (at time.Time, err error) {
	err = row.Scan(sqldb.Time(&at))
	return at, err
}

// fixedPoll is an operation that is polled at a fixed share of its age.
type fixedPoll struct {
	simulatedOperation

	last, due float64
}

// fixed polls them as the relay did before there were plans: at a fixed share of the age,
// as long as the budget lasts; then half for the youngest, half for the longest waiting.
func (s simulated) fixed(operations []simulatedOperation, lag float64) *outcome {
	budget, start := s.budget(), time.Date(2026, 11, 23, 10, 0, 7, 0, time.UTC)
	result, now, next, l := &outcome{}, 0.0, 0, &ledger{}
	var open []*fixedPoll
	for next < len(operations) || len(open) > 0 {
		for ; next < len(operations) && operations[next].began <= now; next++ {
			open = append(open, &fixedPoll{operations[next], operations[next].began, operations[next].began})
		}
		at := start.Add(time.Duration(now * float64(time.Second)))
		left, more := l.at(at, budget).allowance()
		var due []*fixedPoll
		wake := math.Inf(1)
		for _, p := range open {
			if p.due <= now {
				due = append(due, p)
			} else {
				wake = min(wake, p.due)
			}
		}
		if len(due) > left {
			wake = min(wake, more.Sub(start).Seconds())
			if left > 0 {
				_, more = (&ledger{slots: append(slices.Clone(l.slots), slot{at.UnixMicro() - at.UnixMicro()%budget.slotLength(), left, 0})}).at(at, budget).allowance()
				wake = min(wake, more.Sub(start).Seconds())
			}
			due = shareOut(due, left, now)
		}
		l.at(at, budget).charge(len(due), 0)
		result.watched = max(2*len(open)-s.operations, 0)
		for _, p := range due {
			result.poll(now, p.last)
			age := now - p.began
			if p.last = now; age >= p.lasts {
				result.lags = append(result.lags, (age-p.lasts)/p.lasts)
			}
			p.due = now + min(max(lag*age, 1), 60)
			wake = min(wake, p.due)
		}
		open = slices.DeleteFunc(open, func(p *fixedPoll) bool {
			return p.last-p.began >= p.lasts && p.last > p.began || p.last == now && now-p.began >= p.lasts
		})
		if next < len(operations) {
			wake = min(wake, operations[next].began)
		}
		now = max(wake, now+0.05)
	}
	return result
}

func shareOut(due []*fixedPoll, left int, now float64) []*fixedPoll {
	slices.SortStableFunc(due, func(a, b *fixedPoll) int { return cmp.Compare(b.began, a.began) })
	taken, rest := slices.Clone(due[:left/2]), slices.Clone(due[left/2:])
	slices.SortStableFunc(rest, func(a, b *fixedPoll) int { return cmp.Compare(a.due, b.due) })
	rest = rest[:min(len(rest), 2*left)]
	wait := func(p *fixedPoll) float64 { return (now - p.due + 1) / (p.due - p.last + 1) }
	slices.SortStableFunc(rest, func(a, b *fixedPoll) int { return cmp.Compare(wait(b), wait(a)) })
	return append(taken, rest[:left-left/2]...)
}

// TestSimulatedBudgets holds the plan to what any fixed share of the age would come to.
// With -v it prints both as a table.
func TestSimulatedBudgets(t *testing.T) {
	t.Parallel()
	for _, s := range []simulated{
		{1, 0, 120, 24, 1.15},
		{5, 0, 120, 6, 1.15},
		{20, 0, 40, 5, 1.15},
		{20, 0, 120, 5, 1.15},
		{20, 0, 1200, 2, 1.15},
		{60, 0, 120, 3, 1.0 / 3},
		{200, 0, 120, 1, 1.15},
		{200, 0, 1200, 1, 1.15},
		{2000, 0, 1200, 1, 1.15},
		{60, 50 * time.Second, 120, 1, 1.15},
		// Here a fixed share is better that polls at 1 s, 21 s and then each minute, for the
		// few that last a second weigh most.
		{200, 10 * time.Second, 120, 3, 1.3},
		{200, 3300 * time.Millisecond, 120, 1, 1.15},
	} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			s.hold(t)
		})
	}
}

func (s simulated) hold(t *testing.T) {
	t.Helper()
	planned, best, bestLag := &outcome{}, math.Inf(1), 0.0
	most := 0
	for seed := range s.seeds {
		one := s.planned(t, s.draw(seed))
		planned.add(one)
		most = max(most, one.most(s.budget().Per))
	}
	means := map[float64]float64{}
	for _, lag := range []float64{0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50} {
		all := &outcome{}
		for seed := range s.seeds {
			all.add(s.fixed(s.draw(seed), lag))
		}
		if means[lag] = all.mean(); means[lag] < best {
			best, bestLag = means[lag], lag
		}
	}
	t.Logf("| %v | %.2f | %.2f | %.1f | %.0f s | %d | %.2f | %.2f | %.2f | %.2f (%.2g) |", s, planned.mean(), planned.quantile(0.5),
		planned.quantile(0.99), planned.blind, most, means[0.1], means[1], means[2], best, bestLag)
	if len(planned.lags) != s.operations*s.seeds {
		t.Errorf("%d operations were noticed", len(planned.lags))
	}
	if planned.mean() > s.most*best {
		t.Errorf("the mean lag is %.2f, that of the best fixed share (%.2g) is %.2f", planned.mean(), bestLag, best)
	}
	if most > s.requests {
		t.Errorf("%d requests in one window", most)
	}
	longest := 2 * max(s.budget().evenShare(s.operations), defaultIntervals.Max*11/20).Seconds()
	if planned.blind > longest {
		t.Errorf("an operation was not polled for %.0f s; twice an even share is %.0f s", planned.blind, longest)
	}
	if sixth := s.budget().Per.Seconds() / 6; s.every == 0 && s.operations >= 200 && planned.dry > sixth {
		t.Errorf("for %.0f s there was no poll at all", planned.dry)
	}
}

// What is asked for goes by the whole budget: two operations are not too many where little is left.
func TestAskedOfABudget(t *testing.T) {
	t.Parallel()
	now := time.Now()
	asked := func(operations int) float64 {
		o := budgetOutlook{
			own: defaultIntervals, now: now, total: operations, newcomers: 1, left: []budgetLeft{{time.Minute, 3}, {6 * time.Minute, 120}},
		}
		for range operations {
			o.operations = append(o.operations, plannedPoll{
				created: now.Add(-2 * time.Second), polled: now, due: now.Add(time.Second),
			})
		}
		return o.asked(120)
	}
	if few, many := asked(2), asked(20); few >= 1 || many < shortOf {
		t.Errorf("2 operations ask for %.1f of the budget and 20 for %.1f, want less than 1 and more than %v", few, many, shortOf)
	}
}
