package deliver

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
		name      string
		step      int
		before    time.Duration // what it was postponed by
		accepting bool
		err       error
		random    float64

		status    string
		next      time.Time
		postponed time.Duration
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
		{name: "410", err: failure(notifier.Gone, 0), status: storage.DeliveryHeld, disable: storage.DisabledGone},
		{name: "410 at last", step: 2, err: failure(notifier.Gone, 0), status: storage.DeliveryHeld, disable: storage.DisabledGone},
		{name: "refused by Slack for good", err: failure(notifier.Rejected, 0), status: storage.DeliveryHeld, disable: storage.DisabledRejected},
		{
			name: "asked to wait", err: failure(notifier.RateLimited, time.Hour),
			status: storage.DeliveryPending, pause: ended.Add(time.Hour), next: ended.Add(time.Hour), postponed: time.Hour,
		},
		{
			name: "asked to wait for less than the schedule", step: 1, err: failure(notifier.RateLimited, 30*time.Second),
			status: storage.DeliveryPending, pause: ended.Add(30 * time.Second), next: ended.Add(30 * time.Second), postponed: postponeLeast,
		},
		{
			name: "asked to wait at last", step: 2, err: failure(notifier.RateLimited, time.Hour),
			status: storage.DeliveryPending, pause: ended.Add(time.Hour), next: ended.Add(time.Hour), postponed: time.Hour,
		},
		{
			name: "asked to wait for a week", err: failure(notifier.RateLimited, 7*24*time.Hour),
			status: storage.DeliveryPending, pause: ended.Add(24 * time.Hour), next: ended.Add(24 * time.Hour), postponed: 24 * time.Hour,
		},
		{
			name: "asked for the last that is free", before: 23 * time.Hour, err: failure(notifier.RateLimited, time.Hour),
			status: storage.DeliveryPending, pause: ended.Add(time.Hour), next: ended.Add(time.Hour), postponed: time.Hour,
		},
		{
			name: "asked for more than is free", before: 23*time.Hour + 1, err: failure(notifier.RateLimited, time.Hour),
			status: storage.DeliveryPending, pause: ended.Add(time.Hour), next: ended.Add(time.Hour),
		},
		{
			name: "for less than the schedule", before: 24 * time.Hour, step: 1, err: failure(notifier.RateLimited, time.Minute),
			status: storage.DeliveryPending, pause: ended.Add(time.Minute), next: ended.Add(time.Hour),
		},
		{
			name: "and at last", before: 24 * time.Hour, step: 2, err: failure(notifier.RateLimited, time.Minute),
			status: storage.DeliveryFailed, pause: ended.Add(time.Minute),
		},
		{
			name: "asked to wait, but not for how long", err: failure(notifier.RateLimited, 0), random: 0.5, accepting: true,
			status: storage.DeliveryPending, pause: ended.Add(1100 * time.Millisecond), next: ended.Add(1100 * time.Millisecond), postponed: postponeLeast,
		},
		{
			name: "and nothing is accepted", err: failure(notifier.RateLimited, 0),
			status: storage.DeliveryPending, pause: ended.Add(time.Second), next: ended.Add(10 * time.Second),
		},
		{
			name: "until the end", step: 2, err: failure(notifier.RateLimited, 0),
			status: storage.DeliveryFailed, pause: ended.Add(time.Second),
		},
		{
			name: "an error of no kind", err: errors.New("no luck"),
			status: storage.DeliveryPending, next: ended.Add(10 * time.Second),
		},
	} {
		due := storage.DueDelivery{ID: "delivery", AttemptsMade: 7, Step: test.step, Postponed: test.before}
		attempt := storage.Attempt{Number: 8, StartedAt: started, Duration: time.Second, StatusCode: 500}
		want := storage.AttemptResult{
			DeliveryID: "delivery", AttemptsMade: 7, Attempt: attempt, Status: test.status, NextAttemptAt: test.next,
			Postponed: test.postponed, PauseUntil: test.pause,
		}
		if test.err != nil {
			want.Attempt.Error = "no luck"
		}
		got := schedule.judge(due, tried{attempt: attempt, accepting: test.accepting, err: test.err, random: test.random})
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
		{name: "asked to wait", err: failure(notifier.RateLimited, time.Hour), next: ended.Add(time.Hour), pause: ended.Add(time.Hour)},
		{name: "rejected", err: failure(notifier.Rejected, 0), next: ended.Add(progressRetry), disable: storage.DisabledRejected},
		{name: "gone", err: failure(notifier.Gone, 0), next: ended.Add(progressRetry), disable: storage.DisabledGone},
		{
			name: "rate limited", err: failure(notifier.RateLimited, 5*time.Second),
			next: ended.Add(progressRetry), pause: ended.Add(5 * time.Second),
		},
	} {
		at := storage.Attempt{StartedAt: ended.Add(-time.Second), Duration: time.Second}
		got := judgeProgress(storage.DueProgress{WatchID: "watch", Revision: 3}, ref, tried{attempt: at, err: test.err})
		want := []storage.ProgressResult{{WatchID: "watch", Revision: 3, Slack: ref, NextAttemptAt: test.next, PauseUntil: test.pause}}
		if diff := cmp.Diff(want, got.progress); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if got.disable != test.disable || !got.pauseUntil.Equal(test.pause) {
			t.Errorf("%s: disable %q, pause until %v", test.name, got.disable, got.pauseUntil)
		}
	}
}

// justBelowOne stands for the largest random number.
const justBelowOne = 0.999

func TestRetryScheduleNext(t *testing.T) {
	t.Parallel()
	schedule := RetrySchedule{5 * time.Second, 5 * time.Minute, 24 * time.Hour}
	for _, test := range []struct {
		name        string
		step        int
		retryAfter  time.Duration
		random      float64
		least, most time.Duration
		ok          bool
	}{
		{"after the first", 0, 0, 0, 5 * time.Second, 5 * time.Second, true},
		{"most jitter", 0, 0, justBelowOne, 5990 * time.Millisecond, 6 * time.Second, true},
		{"after the second", 1, 0, 0, 5 * time.Minute, 5 * time.Minute, true},
		{"after the last but one", 2, 0, 0, 24 * time.Hour, 24 * time.Hour, true},
		{"after the last", 3, 0, 0, 0, 0, false},
		{"beyond a schedule that was shortened", 7, 0, 0, 0, 0, false},
		{"after the last, whatever is asked", 3, time.Hour, 0, 0, 0, false},
		{"retry-after shorter than the schedule", 1, time.Second, 0, 5 * time.Minute, 5 * time.Minute, true},
		{"retry-after longer than the schedule", 0, time.Hour, justBelowOne, time.Hour, time.Hour, true},
		{"retry-after beyond a day", 0, 100 * time.Hour, 0, 24 * time.Hour, 24 * time.Hour, true},
		{"the schedule may exceed a day", 2, 0, justBelowOne, 28 * time.Hour, 29 * time.Hour, true},
	} {
		got, ok := schedule.next(test.step, test.retryAfter, test.random)
		if ok != test.ok || got < test.least || got > test.most {
			t.Errorf("%s: %v, %v; want %v to %v, %v", test.name, got, ok, test.least, test.most, test.ok)
		}
	}
	if _, ok := RetrySchedule(nil).next(0, 0, 0); ok {
		t.Error("an empty schedule has a second attempt")
	}
}
