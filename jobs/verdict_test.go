package jobs

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oprelay/notifier"
	"oprelay/storage"
)

func failure(kind notifier.Kind, retryAfter time.Duration) error {
	return &notifier.Error{Kind: kind, RetryAfter: retryAfter, Err: errors.New("no luck")}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	started := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	ended := started.Add(time.Second)
	schedule := RetrySchedule{10 * time.Second, time.Hour}

	for _, test := range []struct {
		name   string
		step   int
		err    error
		random float64
		status string
		next   time.Time
		// what it means for the destination
		disable string
		pause   time.Time
	}{
		{name: "accepted", status: storage.DeliverySucceeded},
		{name: "accepted at last", step: 2, status: storage.DeliverySucceeded},
		{
			name: "first failure", err: failure(notifier.Passing, 0),
			status: storage.DeliveryPending, next: ended.Add(10 * time.Second),
		},
		{
			name: "jitter", err: failure(notifier.Passing, 0), random: 0.5,
			status: storage.DeliveryPending, next: ended.Add(11 * time.Second),
		},
		{
			name: "second failure", step: 1, err: failure(notifier.Passing, 0),
			status: storage.DeliveryPending, next: ended.Add(time.Hour),
		},
		{name: "last failure", step: 2, err: failure(notifier.Passing, 0), status: storage.DeliveryFailed},
		{name: "last failure, asked to wait", step: 2, err: failure(notifier.Passing, time.Hour), status: storage.DeliveryFailed},
		{
			name: "retry-after longer", err: failure(notifier.Passing, time.Minute),
			status: storage.DeliveryPending, next: ended.Add(time.Minute),
		},
		{
			name: "retry-after shorter", step: 1, err: failure(notifier.Passing, time.Minute),
			status: storage.DeliveryPending, next: ended.Add(time.Hour),
		},
		{
			name: "retry-after beyond a day", err: failure(notifier.Passing, 30*24*time.Hour),
			status: storage.DeliveryPending, next: ended.Add(24 * time.Hour),
		},
		{name: "410", err: failure(notifier.Gone, 0), status: storage.DeliveryHeld, disable: storage.DisabledGone},
		{name: "410 at last", step: 2, err: failure(notifier.Gone, 0), status: storage.DeliveryHeld, disable: storage.DisabledGone},
		{name: "refused by Slack for good", err: failure(notifier.Rejected, 0), status: storage.DeliveryHeld, disable: storage.DisabledRejected},
		{
			name: "rate limited by Slack", err: failure(notifier.RateLimited, 30*time.Second),
			status: storage.DeliveryPending, next: ended.Add(30 * time.Second), pause: ended.Add(30 * time.Second),
		},
		{
			name: "rate limited by Slack for less than the schedule", step: 1, err: failure(notifier.RateLimited, 30*time.Second),
			status: storage.DeliveryPending, next: ended.Add(time.Hour), pause: ended.Add(30 * time.Second),
		},
		{
			name: "rate limited by Slack at last", step: 2, err: failure(notifier.RateLimited, 30*time.Second),
			status: storage.DeliveryFailed, pause: ended.Add(30 * time.Second),
		},
		{
			name: "an error of no kind", err: errors.New("no luck"),
			status: storage.DeliveryPending, next: ended.Add(10 * time.Second),
		},
	} {
		due := storage.DueDelivery{ID: "delivery", AttemptsMade: 7, Step: test.step}
		attempt := storage.Attempt{Number: 8, StartedAt: started, Duration: time.Second, StatusCode: 500}
		want := storage.AttemptResult{DeliveryID: "delivery", AttemptsMade: 7, Attempt: attempt, Status: test.status, NextAttemptAt: test.next}
		if test.err != nil {
			want.Attempt.Error = "no luck"
		}
		got := schedule.judge(due, attempt, test.err, test.random)
		if diff := cmp.Diff([]storage.AttemptResult{want}, got.deliveries); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if got.disable != test.disable || !got.pauseUntil.Equal(test.pause) {
			t.Errorf("%s: disable %q, pause until %v", test.name, got.disable, got.pauseUntil)
		}
	}
}

func TestJudgeProgress(t *testing.T) {
	t.Parallel()
	ended := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	ref := storage.SlackRef{Channel: "C1", TS: "1.2"}
	for _, test := range []struct {
		name    string
		err     error
		next    time.Time
		disable string
		pause   time.Time
	}{
		{name: "shown"},
		{name: "failed", err: failure(notifier.Passing, 0), next: ended.Add(progressRetry)},
		{name: "asked to wait", err: failure(notifier.Passing, time.Hour), next: ended.Add(time.Hour)},
		{name: "rejected", err: failure(notifier.Rejected, 0), next: ended.Add(progressRetry), disable: storage.DisabledRejected},
		{name: "gone", err: failure(notifier.Gone, 0), next: ended.Add(progressRetry), disable: storage.DisabledGone},
		{
			name: "rate limited", err: failure(notifier.RateLimited, 5*time.Second),
			next: ended.Add(progressRetry), pause: ended.Add(5 * time.Second),
		},
	} {
		got := judgeProgress(storage.DueProgress{WatchID: "watch", Revision: 3}, ref, ended, test.err)
		want := []storage.ProgressResult{{WatchID: "watch", Revision: 3, Slack: ref, NextAttemptAt: test.next}}
		if diff := cmp.Diff(want, got.progress); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if got.disable != test.disable || !got.pauseUntil.Equal(test.pause) {
			t.Errorf("%s: disable %q, pause until %v", test.name, got.disable, got.pauseUntil)
		}
	}
}
