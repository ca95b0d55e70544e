package jobs

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"
)

type finished[R any] struct {
	id     string
	result R
	ok     bool
}

// queued is a row that was claimed, and when.
type queued[T any] struct {
	row     T
	claimed time.Time
}

type claimed[T any] struct {
	at        time.Time // when the claim began
	rows      []T
	asked     int
	notBefore time.Time
	err       error
}

type recorded struct {
	ids []string
	err error
}

// draining is the state of one run; it belongs to the goroutine that runs it.
type draining[T, R any] struct {
	*drain[T, R]
	work context.Context //nolint:containedctx // of the run, as the whole of this

	busy     map[string]bool // claimed, and neither dropped nor recorded
	queue    []queued[T]     // claimed, and not begun
	underWay int
	results  []R      // not being written yet
	ids      []string // of the results
	writing  int      // results that are being written
	claiming bool
	more     bool // rows may be due that were not claimed
	rate     tally
	began    time.Time   // with the first claim's rows
	moved    bool        // a request has ended since the last look at it
	did      bool        // something since the last rest
	over     bool        // the turn
	stuck    atomic.Bool // the database refuses results

	notBefore time.Time
	err       error

	done    chan finished[R]
	claims  chan claimed[T]
	records chan recorded
}

// goOn begins the requests that may begin, and claims further rows in time.
func (r *draining[T, R]) goOn() {
	p := r.pace()
	if p.limit == 0 || p.careful && len(r.busy) > p.limit {
		r.dropQueue()
	}
	if p.limit == 0 || r.stuck.Load() {
		return
	}
	if r.fresh > 0 && len(r.queue) > 0 && time.Since(r.queue[0].claimed) > r.fresh {
		r.dropQueue()
	}
	if r.throng != nil {
		p.limit = min(p.limit, r.underWay+r.throng.room(r.underWay))
	}
	for len(r.queue) > 0 && r.underWay < p.limit && r.underWay+r.unrecorded() < max(unrecordedMost, p.limit) {
		if r.throng != nil && !r.throng.enter(r.underWay) {
			break
		}
		next := r.queue[0]
		r.queue = r.queue[1:]
		r.begin(next.row)
	}
	if n := r.wanted(p); n > 0 && r.more && !r.claiming {
		r.claimMore(n)
	}
}

// gather lets further work become due, whatever is heard of it meanwhile. It is false
// if that is not worth the while, or others may be waiting.
func (r *draining[T, R]) gather(stop context.Context, woken <-chan struct{}) bool {
	if r.rest == nil || !r.did || !r.notBefore.IsZero() || r.crowded != nil && r.crowded() {
		return false
	}
	pause := r.rest()
	if pause == 0 || !wait(stop, pause) {
		return false
	}
	select {
	case <-woken: // the next claim sees what this told of
	default:
	}
	r.did, r.more = false, true
	return true
}

// hearMore waits a moment for further work after all is done, so that a trickle of
// it does not cost a lease each. It is false if none was heard of, or a limit was
// what stopped the work.
func (r *draining[T, R]) hearMore(stop context.Context, woken <-chan struct{}) bool {
	if r.linger == nil || r.more || !r.notBefore.IsZero() || r.pace().limit == 0 {
		return false
	}
	timer := time.NewTimer(r.linger())
	defer timer.Stop()
	select {
	case <-woken:
		r.more = true
		return true
	case <-timer.C:
	case <-stop.Done():
	}
	return false
}

// hadItsTurn says whether it is others' turn: a group that always has work, as one at
// its rate limit, else kept its slot from them for as long, and so did one that hangs.
func (r *draining[T, R]) hadItsTurn() bool {
	if r.began.IsZero() { // nothing has been claimed: it is the database that is slow
		return false
	}
	hangs := r.stepAside != nil && !r.moved && r.underWay > 0
	r.moved = false
	return (hangs || time.Since(r.began) >= turnLength) && r.crowded != nil && r.crowded()
}

// leave lets others have the slot of what only waits.
func (r *draining[T, R]) leave() {
	if r.stepAside != nil && r.underWay > 0 {
		r.stepAside()
	}
}

func (r *draining[T, R]) unrecorded() int { return len(r.results) + r.writing }

// wanted is how many rows to claim: what can begin at once, and ahead of that as
// many as were finished of late.
func (r *draining[T, R]) wanted(p pace) int {
	if p.careful {
		return p.limit - len(r.busy)
	}
	lead := min(r.rate.count(), claimMost)
	if len(r.queue) > lead/2 {
		return 0
	}
	return min(max(p.limit-r.underWay, 0)+lead-len(r.queue), claimMost)
}

func (r *draining[T, R]) claimMore(n int) {
	r.claiming, r.more = true, false
	busy := maps.Clone(r.busy)
	go func() {
		at := time.Now()
		rows, notBefore, err := r.claim(r.work, n, busy)
		r.claims <- claimed[T]{at, rows, n, notBefore, err}
	}()
}

func (r *draining[T, R]) take(c claimed[T]) {
	r.claiming, r.notBefore = false, c.notBefore
	if r.began.IsZero() {
		r.began = time.Now()
	}
	r.more = r.more || len(c.rows) == c.asked
	r.err = errors.Join(r.err, c.err)
	for _, row := range c.rows {
		r.busy[r.id(row)] = true
		r.queue = append(r.queue, queued[T]{row, c.at})
	}
}

// dropQueue leaves what has not begun to a later claim.
func (r *draining[T, R]) dropQueue() {
	for _, q := range r.queue {
		delete(r.busy, r.id(q.row))
		r.more = true
	}
	r.queue = nil
}

func (r *draining[T, R]) begin(row T) {
	r.underWay++
	go func() {
		result, ok := r.do(r.work, row)
		if r.throng != nil {
			r.throng.leave()
		}
		r.done <- finished[R]{r.id(row), result, ok}
	}()
}

// finish notes what came of a request, and of all others that have ended by now.
func (r *draining[T, R]) finish(f finished[R]) {
	for {
		r.underWay--
		r.moved = true
		if f.ok {
			r.results, r.ids = append(r.results, f.result), append(r.ids, f.id)
			r.rate.add()
			r.learn(f.result)
		} else {
			delete(r.busy, f.id)
			r.more = true
		}
		select {
		case f = <-r.done:
		default:
			return
		}
	}
}

// writeResults has what came in during the last commit written by the next.
func (r *draining[T, R]) writeResults() {
	if len(r.results) == 0 || r.writing > 0 {
		return
	}
	results, ids := r.results, r.ids
	r.results, r.ids, r.writing = nil, nil, len(results)
	go func() { r.records <- recorded{ids, r.persist(results)} }()
}

func (r *draining[T, R]) settle(w recorded) {
	r.writing = 0
	r.did = true
	r.err = errors.Join(r.err, w.err)
	for _, id := range w.ids {
		delete(r.busy, id)
	}
}
