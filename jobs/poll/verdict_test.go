package poll

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oprelay/jobs/source"
	"oprelay/storage"
)

func TestObserve(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	young := storage.DuePoll{RowID: "row", CreatedAt: at, Status: storage.OperationPending}
	refused := young
	refused.RefusedSince, refused.RefusedReason = at.Add(-time.Minute), storage.ReasonNotFound
	refused.LastPolledAt = at.Add(-time.Second)
	completedAt := at.Add(-time.Second)

	for _, test := range []struct {
		name   string
		due    storage.DuePoll
		answer source.Answer
		want   storage.PollResult
	}{
		{"in progress", young, source.Answer{Verdict: source.Running}, storage.PollResult{
			Status: "running", Next: at.Add(time.Second), CredentialAccepted: true,
		}},
		{"known again", refused, source.Answer{Verdict: source.Pending}, storage.PollResult{
			Status: "pending", Next: at.Add(time.Second), CredentialAccepted: true,
		}},
		{"completed", young, source.Answer{Verdict: source.Completed, CompletedAt: completedAt}, storage.PollResult{
			Status: "completed", CompletedAt: completedAt, Next: at.Add(time.Second), End: storage.WatchCompleted, CredentialAccepted: true,
		}},
		{"failed", refused, source.Answer{Verdict: source.Failed, Error: "full"}, storage.PollResult{
			Status: "failed", Error: "full", Next: at.Add(time.Second), End: storage.WatchFailed, CredentialAccepted: true,
		}},
		{"inconclusive", young, source.Answer{Verdict: source.Inconclusive, Problem: "HTML"}, storage.PollResult{
			Status: "pending", Problem: "HTML", Next: at.Add(5 * time.Second),
		}},
		{"inconclusive while refused", refused, source.Answer{Verdict: source.Inconclusive, RetryAfter: time.Hour}, storage.PollResult{
			Status: "pending", Next: at.Add(time.Hour), RefusedSince: refused.RefusedSince, RefusedReason: storage.ReasonNotFound,
		}},
		{"rate limited", young, source.Answer{Verdict: source.Limited, Problem: "429"}, storage.PollResult{
			Status: "pending", Problem: "429", Next: at.Add(lockOut),
		}},
		{"rate limited for longer", young, source.Answer{Verdict: source.Limited, RetryAfter: time.Hour}, storage.PollResult{
			Status: "pending", Next: at.Add(time.Hour),
		}},
		{"refused", young, source.Answer{Verdict: source.Refused, Problem: "401"}, storage.PollResult{
			Status: "pending", Problem: "401", Next: at.Add(time.Second), CredentialRefused: true,
			RefusedSince: at, RefusedReason: storage.ReasonCredentialRejected,
		}},
		{"unknown, then refused", refused, source.Answer{Verdict: source.Refused}, storage.PollResult{
			Status: "pending", Next: at.Add(time.Second), CredentialRefused: true,
			RefusedSince: refused.RefusedSince, RefusedReason: storage.ReasonCredentialRejected,
		}},
		{"not found", young, source.Answer{Verdict: source.NotFound, Problem: "404"}, storage.PollResult{
			Status: "pending", Problem: "404", Next: at.Add(time.Second), RefusedSince: at, RefusedReason: storage.ReasonNotFound,
		}},
	} {
		test.want.RowID, test.want.At, test.want.GraceGap = "row", at, 2*lockOut
		if diff := cmp.Diff(test.want, policy().observe(test.due, test.answer, at, time.Second)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// What an operation waits for is its budget only where the budget is what dates its next poll.
func TestHeldByItsBudget(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	due := storage.DuePoll{CreatedAt: at, Plan: storage.PollPlan{Growth: 3, Longest: time.Hour}}
	for _, test := range []struct {
		answer  source.Answer
		planned time.Duration
		want    bool
	}{
		{source.Answer{Verdict: source.Running}, 3 * time.Second, true},
		{source.Answer{Verdict: source.Inconclusive}, time.Minute, true},
		{source.Answer{Verdict: source.Inconclusive}, 3 * time.Second, false}, // five times the shortest is longer
		{source.Answer{Verdict: source.Inconclusive, RetryAfter: time.Hour}, time.Minute, false},
		{source.Answer{Verdict: source.Limited}, time.Minute, false},
	} {
		if got := policy().observe(due, test.answer, at, test.planned); got.Held != test.want {
			t.Errorf("%+v, planned in %v: held %v", test.answer, test.planned, got.Held)
		}
	}
}

// The grace period of 15 minutes ends to the microsecond, and the last poll of it
// is not put off beyond its end.
func TestGracePeriod(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	end := since.Add(15 * time.Minute)
	for _, test := range []struct {
		name    string
		outcome source.Verdict
		at      time.Time
		end     string
		next    time.Time
	}{
		{"a second before its end", source.NotFound, end.Add(-time.Second), "", end},
		{"a microsecond before its end", source.Refused, end.Add(-time.Microsecond), "", end},
		{"at its end, unknown", source.NotFound, end, storage.WatchUnobservable, time.Time{}},
		{"at its end, refused", source.Refused, end, storage.WatchUnobservable, time.Time{}},
		{"long after its end", source.NotFound, end.Add(time.Hour), storage.WatchUnobservable, time.Time{}},
		{"after its end, but nothing known", source.Inconclusive, end.Add(time.Hour), "", end.Add(time.Hour + time.Minute)},
		{"after its end, but rate limited", source.Limited, end.Add(time.Hour), "", end.Add(time.Hour + lockOut)},
	} {
		due := storage.DuePoll{CreatedAt: since, RefusedSince: since, LastPolledAt: test.at.Add(-time.Minute)}
		got := policy().observe(due, source.Answer{Verdict: test.outcome}, test.at, time.Minute)
		if got.End != test.end || (test.end == "" && !got.Next.Equal(test.next)) {
			t.Errorf("%s: end %q, next %v; want %q, %v", test.name, got.End, got.Next, test.end, test.next)
		}
		if test.end == "" && got.RefusedSince != since {
			t.Errorf("%s: the grace period begins anew", test.name)
		}
	}
	// Where nobody has asked for days, the first answer ends nothing: the grace begins anew.
	scarce := storage.PollPlan{Growth: 100, Longest: time.Hour}
	for _, test := range []struct {
		name    string
		outcome source.Verdict
		unasked time.Duration
		plan    storage.PollPlan
		end     string
		since   time.Duration // before the answer
	}{
		{"the relay was down", source.NotFound, 48 * time.Hour, storage.PollPlan{}, "", 0},
		{"the relay was down, refused", source.Refused, 48 * time.Hour, storage.PollPlan{}, "", 0},
		{"just longer than a lock-out may last", source.NotFound, 2*lockOut + 1, storage.PollPlan{}, "", 0},
		{"after a lock-out", source.NotFound, 2 * lockOut, storage.PollPlan{}, storage.WatchUnobservable, 72 * time.Hour},
		{"the budget plans for longer", source.NotFound, 2 * time.Hour, scarce, storage.WatchUnobservable, 72 * time.Hour},
	} {
		at := since.Add(72 * time.Hour)
		due := storage.DuePoll{CreatedAt: since, RefusedSince: since, LastPolledAt: at.Add(-test.unasked), Plan: test.plan}
		got := policy().observe(due, source.Answer{Verdict: test.outcome}, at, time.Minute)
		if got.End != test.end || at.Sub(got.RefusedSince) != test.since {
			t.Errorf("%s: end %q, refused for %v; want %q, %v", test.name, got.End, at.Sub(got.RefusedSince), test.end, test.since)
		}
	}
	unknown := storage.DuePoll{RefusedSince: since, RefusedReason: storage.ReasonNotFound, LastPolledAt: since}
	if got := policy().observe(unknown, source.Answer{Verdict: source.Inconclusive}, end, time.Minute); !got.RefusedSince.IsZero() {
		t.Errorf("an answer that tells nothing leaves the grace of before: %+v", got)
	}
	none := Policy{}
	if got := none.observe(storage.DuePoll{}, source.Answer{Verdict: source.NotFound}, since, time.Second); got.End != storage.WatchUnobservable {
		t.Errorf("no grace period: %+v", got)
	}
}

func policy() Policy {
	return Policy{
		Intervals:         storage.Intervals{Lag: 0.1, Min: time.Second, Max: time.Minute},
		UnobservableAfter: 15 * time.Minute, Park: lockOut,
	}
}

// Time in which nobody asked is not to use up a short grace by itself.
func TestGraceGap(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ grace, longest, want time.Duration }{
		{15 * time.Minute, 0, 2 * lockOut},
		{2 * time.Minute, 0, 2 * time.Minute},
		{time.Second, 0, 2 * time.Minute}, // twice the longest interval
		{2 * time.Minute, time.Hour, 2 * time.Hour},
	} {
		p := policy()
		p.UnobservableAfter = test.grace
		if got := p.graceGap(test.longest); got != test.want {
			t.Errorf("grace of %v, intervals up to %v: %v, want %v", test.grace, test.longest, got, test.want)
		}
	}
}

// A wish of the upstream is the least time to the next poll, whatever else the answer says.
func TestNextPoll(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name                string
		verdict             source.Verdict
		planned, retryAfter time.Duration
		want                time.Duration
	}{
		{"inconclusive, young: five times the shortest", source.Inconclusive, time.Second, 0, 5 * time.Second},
		{"inconclusive, old: the planned one", source.Inconclusive, 20 * time.Second, 0, 20 * time.Second},
		{"inconclusive, retry-after is longer", source.Inconclusive, time.Second, 90 * time.Second, 90 * time.Second},
		{"inconclusive, retry-after is shorter", source.Inconclusive, 20 * time.Second, time.Second, 20 * time.Second},
		{"inconclusive, retry-after beyond a day", source.Inconclusive, time.Second, 48 * time.Hour, 24 * time.Hour},
		{"running", source.Running, time.Second, 0, time.Second},
		{"running, retry-after is longer", source.Running, time.Second, 8 * time.Second, 8 * time.Second},
		{"pending, retry-after is shorter", source.Pending, 20 * time.Second, 8 * time.Second, 20 * time.Second},
		{"unknown, retry-after is longer", source.NotFound, time.Second, 8 * time.Second, 8 * time.Second},
	} {
		answer := source.Answer{Verdict: test.verdict, RetryAfter: test.retryAfter}
		if got := policy().observe(storage.DuePoll{}, answer, at, test.planned).Next.Sub(at); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	steep := Policy{Intervals: storage.Intervals{Lag: 0.1, Min: 30 * time.Second, Max: time.Minute}}
	answer := source.Answer{Verdict: source.Inconclusive}
	if got := steep.observe(storage.DuePoll{}, answer, at, 30*time.Second).Next.Sub(at); got != time.Minute {
		t.Errorf("five times the shortest is above the longest: %v", got)
	}
}

func TestParkFor(t *testing.T) {
	t.Parallel()
	for retryAfter, want := range map[time.Duration]time.Duration{
		0:                5 * time.Minute,
		30 * time.Second: 5 * time.Minute,
		10 * time.Minute: 10 * time.Minute,
		72 * time.Hour:   24 * time.Hour,
	} {
		if got := policy().parkFor(retryAfter); got != want {
			t.Errorf("retry-after %v: %v, want %v", retryAfter, got, want)
		}
	}
}
