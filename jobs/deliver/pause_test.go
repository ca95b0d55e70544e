package deliver

import (
	"testing"
	"time"
)

// After a pause a destination gets one request at a time, then more as it accepts, and
// one again after the next pause.
func TestEasing(t *testing.T) {
	t.Parallel()
	var e easing
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		pass   time.Duration // before it
		pause  time.Duration // asked for; 0 for none
		accept int
		limit  int // after it, of 10
	}{
		{limit: 10},
		{accept: 3, limit: 10},
		{pause: 30 * time.Second, limit: 0},
		{accept: 5, limit: 0},               // they had begun before
		{pause: 10 * time.Second, limit: 0}, // as one of them says
		{pass: 29 * time.Second, limit: 0},
		{pass: time.Second, limit: 1},
		{accept: 1, limit: 1},
		{accept: 1, limit: 2},
		{accept: 2, limit: 2},
		{accept: 1, limit: 3},
		{accept: 4, limit: 4},
		{pause: time.Second, limit: 0},
		{pass: time.Second, limit: 1},
		{accept: 53, limit: 9}, // 2 + 3 + ... + 9 = 44
		{accept: 1, limit: 10},
		{accept: 1000, limit: 10},
	} {
		now = now.Add(step.pass)
		if step.pause > 0 {
			e.pause(now.Add(step.pause))
		}
		for range step.accept {
			e.accept(now)
		}
		if got := e.of(10, now); got != step.limit {
			t.Errorf("step %d: %d at a time, want %d", i, got, step.limit)
		}
	}
}
