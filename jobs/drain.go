package jobs

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"oprelay/storage"
)

const (
	// recheck is how often a group with something in flight is looked at for
	// work that others made due; work of this process announces itself.
	recheck = 500 * time.Millisecond
	// ahead is how much work is claimed ahead, by the time that it will take: enough
	// to last for a claim and a commit, little enough that what comes in between
	// and is more urgent does not wait for long.
	ahead = 250 * time.Millisecond
	// claimMost bounds one claim.
	claimMost = 1000
	// unrecordedMost is how many requests may be under way or wait for the commit of
	// their result before no further one begins, unless the limit is higher: so many
	// are sent twice if the process is killed. A commit of as many is cheap enough.
	unrecordedMost = 256
	// recordMost bounds one commit of several shifts' results, for all who come meanwhile
	// wait for it: some 100 ms in a burst.
	recordMost = 256
	// recordPause and recordPauseMax bound the pauses between tries to write
	// results while the database is away.
	recordPause    = 100 * time.Millisecond
	recordPauseMax = 500 * time.Millisecond
	// turnLength is how long a group is worked through while others wait.
	turnLength = 2 * time.Second
)

// drain is how a group's due rows are worked through. Three things go on at a
// time: rows are claimed ahead, requests are under way within a limit, and the
// results that came in during one commit are written together by the next. T is
// a due row, R what came of it.
//
// Only claim, do and record run beside the others; each of claim and record once
// at a time.
type drain[T, R any] struct {
	// claim finds at most n due rows that are not among the busy ones. notBefore is
	// when to come back if a limit, and not the rows, was what stopped it.
	claim func(ctx context.Context, n int, busy map[string]bool) (rows []T, notBefore time.Time, err error)
	// pace is how fast to go now.
	pace func() pace
	id   func(T) string
	// do works on one row. ok is false if nothing was done and there is nothing
	// to record.
	do func(ctx context.Context, row T) (result R, ok bool)
	// learn is told of each result as it comes in, so that what follows from it for
	// the next request need not wait for a commit.
	learn func(R)
	// record writes results; it is repeated until it succeeds or work ends.
	record func(ctx context.Context, results []R) error
	// ahead is how much work is claimed ahead, by the time that it will take.
	ahead time.Duration
	// fresh is for how long a claim may be gone by; 0 is for ever. What has not begun
	// by then is claimed anew, as what the claim has read may have changed.
	fresh time.Duration
	// throng bounds what this and all other runs have under way; nil for no bound.
	throng *throng
	// rest is how long, once something was done and no more is left, to let further work
	// gather, so that it is claimed and recorded together; nil or 0 for not at all.
	rest func() time.Duration
	// linger is how long to wait for more work once all is done; nil for not at all.
	linger func() time.Duration
	// crowded says whether the turn is over once the group has had its time, as others
	// may be waiting; nil for never.
	crowded func() bool
	// stepAside is told, if it is not nil, that no more will begin while requests are
	// still under way; and a turn in which none of these ends is over early.
	stepAside func()
}

// run claims, does and records until nothing is due, the lease is lost, the turn is
// over, or stop ends; then it waits for what is in flight. work is for the requests and writes
// themselves: it outlives stop, so that what has begun can end.
func (d *drain[T, R]) run(stop, work context.Context, woken <-chan struct{}, leased *atomic.Bool) (notBefore time.Time, err error) {
	r := &draining[T, R]{
		drain: d, work: work, more: true, busy: map[string]bool{}, rate: tally{period: d.ahead},
		done: make(chan finished[R], unrecordedMost), claims: make(chan claimed[T], 1), records: make(chan recorded, 1),
	}
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	select {
	case <-woken: // the first claim sees what this told of
	default:
	}
	for {
		open := stop.Err() == nil && leased.Load() && r.err == nil && !r.over
		if open {
			r.goOn()
		} else {
			r.dropQueue()
			r.leave()
		}
		r.writeResults()
		if len(r.busy) == 0 && !r.claiming {
			if open && (r.gather(stop, woken) || r.hearMore(stop, woken)) {
				tick.Reset(recheck)
				continue
			}
			return r.notBefore, r.err
		}
		select {
		case f := <-r.done:
			r.finish(f)
		case c := <-r.claims:
			r.take(c)
		case w := <-r.records:
			r.settle(w)
		case <-woken:
			r.more = true
		case <-tick.C:
			r.more = true
			r.over = r.over || r.hadItsTurn()
		}
	}
}

// persist writes results, again and again while the database is away: a result
// given up is a message sent twice. Work ends when the process must. A batch that
// the database refuses is written one by one, so that one bad row costs no other.
func (r *draining[T, R]) persist(results []R) error {
	for pause := recordPause; ; pause = min(2*pause, recordPauseMax) {
		err := r.record(r.work, results)
		r.stuck.Store(storage.Unavailable(err))
		switch {
		case err == nil:
			return nil
		case !storage.Unavailable(err) && len(results) == 1:
			return err
		case !storage.Unavailable(err):
			var errs []error
			for i := range results {
				errs = append(errs, r.persist(results[i:i+1]))
			}
			return errors.Join(errs...)
		case !wait(r.work, pause):
			return err
		}
	}
}
