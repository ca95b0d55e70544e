package jobs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oprelay/jobs/cloudflare"
	"oprelay/storage"
)

func TestObserve(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	young := storage.DuePoll{RowID: "row", CreatedAt: at, Status: storage.OperationPending}
	refused := young
	refused.RefusedSince, refused.RefusedReason = at.Add(-time.Minute), storage.ReasonNotFound
	completedAt := at.Add(-time.Second)

	for _, test := range []struct {
		name   string
		due    storage.DuePoll
		answer cloudflare.Answer
		want   storage.PollResult
	}{
		{"in progress", young, cloudflare.Answer{Outcome: cloudflare.InProgress, Status: "running"}, storage.PollResult{
			Status: "running", Next: at.Add(time.Second), CredentialAccepted: true,
		}},
		{"known again", refused, cloudflare.Answer{Outcome: cloudflare.InProgress, Status: "pending"}, storage.PollResult{
			Status: "pending", Next: at.Add(time.Second), CredentialAccepted: true,
		}},
		{"completed", young, cloudflare.Answer{Outcome: cloudflare.Terminal, Status: "completed", CompletedAt: completedAt}, storage.PollResult{
			Status: "completed", CompletedAt: completedAt, Next: at.Add(time.Second), End: storage.WatchCompleted, CredentialAccepted: true,
		}},
		{"failed", refused, cloudflare.Answer{Outcome: cloudflare.Terminal, Status: "failed", Error: "full"}, storage.PollResult{
			Status: "failed", Error: "full", Next: at.Add(time.Second), End: storage.WatchFailed, CredentialAccepted: true,
		}},
		{"inconclusive", young, cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "HTML"}, storage.PollResult{
			Status: "pending", Problem: "HTML", Next: at.Add(5 * time.Second),
		}},
		{"inconclusive while refused", refused, cloudflare.Answer{Outcome: cloudflare.Inconclusive, RetryAfter: time.Hour}, storage.PollResult{
			Status: "pending", Next: at.Add(time.Hour), RefusedSince: refused.RefusedSince, RefusedReason: storage.ReasonNotFound,
		}},
		{"rate limited", young, cloudflare.Answer{Outcome: cloudflare.RateLimited, Problem: "429"}, storage.PollResult{
			Status: "pending", Problem: "429", Next: at.Add(CloudflareLockOut),
		}},
		{"rate limited for longer", young, cloudflare.Answer{Outcome: cloudflare.RateLimited, RetryAfter: time.Hour}, storage.PollResult{
			Status: "pending", Next: at.Add(time.Hour),
		}},
		{"refused", young, cloudflare.Answer{Outcome: cloudflare.Refused, Problem: "401"}, storage.PollResult{
			Status: "pending", Problem: "401", Next: at.Add(time.Second), CredentialRefused: true,
			RefusedSince: at, RefusedReason: storage.ReasonCredentialRejected,
		}},
		{"unknown, then refused", refused, cloudflare.Answer{Outcome: cloudflare.Refused}, storage.PollResult{
			Status: "pending", Next: at.Add(time.Second), CredentialRefused: true,
			RefusedSince: refused.RefusedSince, RefusedReason: storage.ReasonCredentialRejected,
		}},
		{"not found", young, cloudflare.Answer{Outcome: cloudflare.NotFound, Problem: "404"}, storage.PollResult{
			Status: "pending", Problem: "404", Next: at.Add(time.Second), RefusedSince: at, RefusedReason: storage.ReasonNotFound,
		}},
	} {
		test.want.RowID, test.want.At = "row", at
		if diff := cmp.Diff(test.want, policy().observe(test.due, test.answer, at, 0.5)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
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
		outcome cloudflare.Outcome
		at      time.Time
		end     string
		next    time.Time
	}{
		{"a second before its end", cloudflare.NotFound, end.Add(-time.Second), "", end},
		{"a microsecond before its end", cloudflare.Refused, end.Add(-time.Microsecond), "", end},
		{"at its end, unknown", cloudflare.NotFound, end, storage.WatchUnobservable, time.Time{}},
		{"at its end, refused", cloudflare.Refused, end, storage.WatchUnobservable, time.Time{}},
		{"long after its end", cloudflare.NotFound, end.Add(time.Hour), storage.WatchUnobservable, time.Time{}},
		{"after its end, but nothing known", cloudflare.Inconclusive, end.Add(time.Hour), "", end.Add(time.Hour + time.Minute)},
		{"after its end, but rate limited", cloudflare.RateLimited, end.Add(time.Hour), "", end.Add(time.Hour + CloudflareLockOut)},
	} {
		due := storage.DuePoll{CreatedAt: since, RefusedSince: since}
		got := policy().observe(due, cloudflare.Answer{Outcome: test.outcome}, test.at, 0.5)
		if got.End != test.end || (test.end == "" && !got.Next.Equal(test.next)) {
			t.Errorf("%s: end %q, next %v; want %q, %v", test.name, got.End, got.Next, test.end, test.next)
		}
		if test.end == "" && got.RefusedSince != since {
			t.Errorf("%s: the grace period begins anew", test.name)
		}
	}
	none := PollPolicy{Min: time.Second, Max: time.Second}
	if got := none.observe(storage.DuePoll{}, cloudflare.Answer{Outcome: cloudflare.NotFound}, since, 0); got.End != storage.WatchUnobservable {
		t.Errorf("no grace period: %+v", got)
	}
}
