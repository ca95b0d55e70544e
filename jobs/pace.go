package jobs

import "time"

// pace is how fast a group may be worked through.
type pace struct {
	// limit is how many requests may be under way; with 0, no more are begun.
	limit int
	// careful lets the limit hold for what is not recorded yet as well, and nothing
	// be claimed ahead: each request is to know what came of those before.
	careful bool
}

// tally counts what was finished of late.
type tally struct {
	period     time.Duration
	began      time.Time // of the period that is counted now
	last, this int
}

func (t *tally) add() {
	t.turn()
	t.this++
}

// count is for one period: the last whole one or, if more, what this one has already.
func (t *tally) count() int {
	t.turn()
	return max(t.last, t.this)
}

func (t *tally) turn() {
	now := time.Now()
	switch since := now.Sub(t.began); {
	case since < t.period:
		return
	case since < 2*t.period:
		t.last = t.this
	default:
		t.last = 0
	}
	t.began, t.this = now, 0
}
