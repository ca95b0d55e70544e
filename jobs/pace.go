package jobs

import (
	"sync/atomic"
	"time"
)

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

const (
	// throngMost is how many attempts a process has under way before no run may have
	// more than throngFew of them, and twice as many before none may have more than one:
	// one that hangs costs 31 KB and a socket, and a thousand destinations may each ask
	// for a thousand.
	throngMost = 1024
	throngFew  = 8
)

// throng counts what all runs together have under way.
type throng struct {
	most int64
	n    atomic.Int64
}

// few is how many a run may have under way however many others have, if n are in all.
func (t *throng) few(n int64) int {
	if n > 2*t.most {
		return 1
	}
	return throngFew
}

// room is how many more may begin for a run that has so many under way.
func (t *throng) room(underWay int) int {
	n := t.n.Load()
	return max(int(t.most-n), t.few(n)-underWay, 0)
}

// enter counts one more, unless there is no room for it any longer.
func (t *throng) enter(underWay int) bool {
	if n := t.n.Add(1); n <= t.most || underWay < t.few(n) {
		return true
	}
	t.n.Add(-1)
	return false
}

func (t *throng) leave() { t.n.Add(-1) }
