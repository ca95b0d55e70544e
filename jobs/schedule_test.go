package jobs

import (
	"testing"
	"time"
)

// justBelowOne stands for the largest random number.
const justBelowOne = 0.999

func policy() PollPolicy {
	return PollPolicy{
		Lag: 0.1, Min: time.Second, Max: time.Minute,
		UnobservableAfter: 15 * time.Minute, LockOut: CloudflareLockOut,
	}
}

func TestPollDelay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		age         time.Duration
		random      float64
		least, most time.Duration
	}{
		{"just registered", 0, 0.5, time.Second, time.Second},
		{"a clock set back", -time.Hour, 0.5, time.Second, time.Second},
		{"below the minimum", 9 * time.Second, 0.5, time.Second, time.Second},
		{"a tenth of its age", 100 * time.Second, 0.5, 10 * time.Second, 10 * time.Second},
		{"above the maximum", time.Hour, 0.5, time.Minute, time.Minute},
		{"least jitter", 100 * time.Second, 0, 9 * time.Second, 9 * time.Second},
		{"most jitter", 100 * time.Second, justBelowOne, 10*time.Second + 990*time.Millisecond, 11 * time.Second},
		{"a month", 30 * 24 * time.Hour, justBelowOne, time.Minute, 66 * time.Second},
	} {
		if got := policy().delay(test.age, test.random); got < test.least || got > test.most {
			t.Errorf("%s: %v, want %v to %v", test.name, got, test.least, test.most)
		}
	}
}

func TestPollBackOff(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		age, retryAfter time.Duration
		want            time.Duration
	}{
		{"young: five times the shortest", 0, 0, 5 * time.Second},
		{"old: the usual delay", 200 * time.Second, 0, 20 * time.Second},
		{"retry-after is longer", 0, 90 * time.Second, 90 * time.Second},
		{"retry-after is shorter", 200 * time.Second, time.Second, 20 * time.Second},
		{"retry-after beyond a day", 0, 48 * time.Hour, 24 * time.Hour},
	} {
		if got := policy().backOff(test.age, test.retryAfter, 0.5); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	steep := PollPolicy{Lag: 0.1, Min: 30 * time.Second, Max: time.Minute}
	if got := steep.backOff(0, 0, 0.5); got != time.Minute {
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
