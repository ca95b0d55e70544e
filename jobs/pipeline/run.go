package pipeline

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"
)

// run is the state of one run; it belongs to the goroutine that runs it.
type run[T Row, R any] struct {
	*Pipeline[T, R]
	Lease

	stop, work context.Context //nolint:containedctx // of the run, as the whole of this
	// events are what requests, claims and writes have come to.
	events chan func()

	busy     map[string]bool // claimed, and neither dropped nor recorded
	queue    []queued[T]     // claimed, and not begun
	underWay int
	results  []R      // not being written yet
	ids      []string // of the results
	writing  int      // results that are being written
	claiming bool
	more     bool // rows may be due that were not claimed
	rate     counter
	began    time.Time   // with the first claim's rows
	did      bool        // something since the last pause
	over     bool        // the run has had its time
	stuck    atomic.Bool // the database refuses results

	notBefore time.Time
	err       error
}

// queued is a row that was claimed, and when.
type queued[T any] struct {
	row     T
	claimed time.Time
}

// goOn begins the requests that may begin, and claims further rows in time.
func (r *run[T, R]) goOn() {
	limit := r.Work.Limit()
	if limit.InFlight == 0 || limit.Careful && len(r.busy) > limit.InFlight {
		r.dropQueue()
	}
	if limit.InFlight == 0 || r.stuck.Load() {
		return
	}
	if r.Fresh > 0 && len(r.queue) > 0 && time.Since(r.queue[0].claimed) > r.Fresh {
		r.dropQueue()
	}
	if r.InFlight != nil {
		limit.InFlight = min(limit.InFlight, r.underWay+r.InFlight.room(r.underWay))
	}
	unrecorded := len(r.results) + r.writing
	most := max(cmp.Or(r.Unrecorded, unrecordedMost), limit.InFlight)
	for len(r.queue) > 0 && r.underWay < limit.InFlight && r.underWay+unrecorded < most {
		if r.InFlight != nil && !r.InFlight.enter(r.underWay) {
			break
		}
		next := r.queue[0]
		r.queue = r.queue[1:]
		r.begin(next.row)
	}
	if n := r.wanted(limit); n > 0 && r.more && !r.claiming {
		r.claim(n)
	}
}

// wanted is how many rows to claim: what can begin at once, and ahead of that as
// many as were finished of late.
func (r *run[T, R]) wanted(limit Limit) int {
	if limit.Careful {
		return limit.InFlight - len(r.busy)
	}
	lead := min(r.rate.count(), claimMost)
	if len(r.queue) > lead/2 {
		return 0
	}
	return min(max(limit.InFlight-r.underWay, 0)+lead-len(r.queue), claimMost)
}

func (r *run[T, R]) claim(n int) {
	r.claiming, r.more = true, false
	busy := maps.Clone(r.busy)
	go func() {
		at := time.Now()
		rows, notBefore, err := r.Work.Claim(r.work, n, busy)
		r.events <- func() {
			r.claiming, r.notBefore = false, notBefore
			if r.began.IsZero() {
				r.began = time.Now()
			}
			r.more = r.more || len(rows) == n
			r.err = errors.Join(r.err, err)
			for _, row := range rows {
				r.busy[row.ID()] = true
				r.queue = append(r.queue, queued[T]{row, at})
			}
		}
	}()
}

func (r *run[T, R]) begin(row T) {
	r.underWay++
	go func() {
		result, ok := r.Work.Do(r.work, row)
		if r.InFlight != nil {
			r.InFlight.leave()
		}
		r.events <- func() {
			r.underWay--
			if !ok {
				delete(r.busy, row.ID())
				r.more = true
				return
			}
			r.results, r.ids = append(r.results, result), append(r.ids, row.ID())
			r.rate.add()
			r.more = r.Work.Learn(result) || r.more
		}
	}()
}

// writeResults has what came in during the last commit written by the next.
func (r *run[T, R]) writeResults() {
	if len(r.results) == 0 || r.writing > 0 {
		return
	}
	results, ids := r.results, r.ids
	r.results, r.ids, r.writing = nil, nil, len(results)
	go func() {
		err := r.persist(results)
		r.events <- func() {
			r.writing, r.did = 0, true
			r.err = errors.Join(r.err, err)
			for _, id := range ids {
				delete(r.busy, id)
			}
		}
	}()
}

// apply notes an event, and all others that there are by now.
func (r *run[T, R]) apply(event func()) {
	for {
		event()
		select {
		case event = <-r.events:
		default:
			return
		}
	}
}

// gather lets further work become due, whatever is heard of it meanwhile. It is false
// if that is not worth the while, or others may be waiting.
func (r *run[T, R]) gather() bool {
	if !r.did || !r.notBefore.IsZero() || r.crowded() {
		return false
	}
	pause := r.Work.Pause()
	if pause == 0 || !wait(r.stop, pause) {
		return false
	}
	r.forgetWakeUp() // the next claim sees what it told of
	r.did, r.more = false, true
	return true
}

// hearMore waits a moment for further work after all is done, so that a trickle of
// it does not cost a lease each. It is false if none was heard of, or a limit was
// what stopped the work.
func (r *run[T, R]) hearMore() bool {
	if r.IdleWait == nil || r.more || !r.notBefore.IsZero() || r.Work.Limit().InFlight == 0 {
		return false
	}
	timer := time.NewTimer(r.IdleWait())
	defer timer.Stop()
	select {
	case <-r.Woken:
		r.more = true
		return true
	case <-timer.C:
	case <-r.stop.Done():
	}
	return false
}

func (r *run[T, R]) forgetWakeUp() {
	select {
	case <-r.Woken:
	default:
	}
}

func (r *run[T, R]) crowded() bool { return r.Crowded != nil && r.Crowded() }

// hadItsTime says whether others come next: a group that always has work, as one at
// its rate limit, would keep its place from them. Time counts from the first rows, for a
// slow database is not the group's doing.
func (r *run[T, R]) hadItsTime() bool {
	return !r.began.IsZero() && time.Since(r.began) >= runLength && r.crowded()
}

// dropQueue leaves what has not begun to a later claim.
func (r *run[T, R]) dropQueue() {
	for _, q := range r.queue {
		delete(r.busy, q.row.ID())
		r.more = true
	}
	r.queue = nil
}

// counter counts what was finished of late.
type counter struct {
	period     time.Duration
	began      time.Time // of the period that is counted now
	last, this int
}

func (c *counter) add() {
	c.advance()
	c.this++
}

// count is for one period: the last whole one or, if more, what this one has already.
func (c *counter) count() int {
	c.advance()
	return max(c.last, c.this)
}

func (c *counter) advance() {
	now := time.Now()
	switch since := now.Sub(c.began); {
	case since < c.period:
		return
	case since < 2*c.period:
		c.last = c.this
	default:
		c.last = 0
	}
	c.began, c.this = now, 0
}
