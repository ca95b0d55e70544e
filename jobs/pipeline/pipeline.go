// Package pipeline works through a group's due rows. Three things go on at a time: rows
// are claimed ahead, requests are under way within a limit, and the results that came in
// during one commit are written together by the next. So a group's rate is its limit over
// a request, not over a request and two transactions, and a burst costs few commits.
package pipeline

import (
	"context"
	"errors"
	"time"
)

const (
	// recheck is how often a group with something in flight is looked at for
	// work that others made due; work of this process announces itself.
	recheck = 500 * time.Millisecond
	// Ahead is how much work is claimed ahead, by the time that it will take: enough
	// to last for a claim and a commit, little enough that what comes in between
	// and is more urgent does not wait for long.
	Ahead = 250 * time.Millisecond
	// claimMost bounds one claim.
	claimMost = 1000
	// unrecordedMost is the default of Pipeline.Unrecorded. A commit of as many is cheap
	// enough.
	unrecordedMost = 256
	// recordPause and recordPauseMax bound the pauses between tries to write
	// results while the database is away.
	recordPause    = 100 * time.Millisecond
	recordPauseMax = 500 * time.Millisecond
	// runLength is how long a group is worked through while others wait.
	runLength = 2 * time.Second
)

// Row is a due row.
type Row interface{ ID() string }

// Work is what a run does with a group's due rows. Claim, Do and Record run beside the
// other methods; each of Claim and Record once at a time.
type Work[T Row, R any] interface {
	// Claim finds at most n due rows that are not among the busy ones. notBefore is
	// when to come back if a limit, and not the rows, was what stopped it.
	Claim(ctx context.Context, n int, busy map[string]bool) (rows []T, notBefore time.Time, err error)
	// Limit is how fast to go now.
	Limit() Limit
	// Do works on one row. ok is false if nothing was done and there is nothing to record.
	Do(ctx context.Context, row T) (result R, ok bool)
	// Learn is told of each result as it comes in, so that what follows from it for the
	// next request need not wait for a commit. It says whether more rows may be due.
	Learn(result R) (more bool)
	// Record writes results; it is repeated until it succeeds or the run is cut off.
	Record(ctx context.Context, results []R) error
	// Pause is how long to let further rows become due once all are done, so that they
	// are claimed and recorded together; 0 for not at all.
	Pause() time.Duration
}

// Limit is how fast a group may be worked through.
type Limit struct {
	// InFlight is how many requests may be under way; with 0, no more are begun.
	InFlight int
	// Careful lets the limit hold for what is not recorded yet as well, and nothing
	// be claimed ahead: each request is to know what came of those before.
	Careful bool
}

// Lease is the group that a run has leased, and what it is told meanwhile.
type Lease struct {
	Group, Owner string
	// Woken tells that more may be due.
	Woken <-chan struct{}
	// IdleWait is how long to wait for more work once all is done; nil for not at all.
	IdleWait func() time.Duration
	// Crowded says whether others may be waiting for the run to end; nil for never.
	Crowded func() bool
}

// Pipeline runs Work.
type Pipeline[T Row, R any] struct {
	Work Work[T, R]
	// Ahead is how much work is claimed ahead, by the time that it will take.
	Ahead time.Duration
	// Fresh is how long a claim may be gone by, as what it has read may change; 0 is for
	// ever. What has not begun by then is claimed anew.
	Fresh time.Duration
	// InFlight bounds what this and all other runs have under way; nil for no bound.
	InFlight *InFlight
	// Unrecorded is how many requests may be under way or wait for the commit of their
	// result before no further one begins, unless the limit is higher; 0 is the default.
	Unrecorded int
	// Unavailable says whether an error means that the database is away.
	Unavailable func(error) bool
}

// Run claims, does and records until nothing is due, the run is over, or stop ends; then
// it waits for what is in flight. work is for the requests and writes themselves: it
// outlives stop, so that what has begun can end.
func (p *Pipeline[T, R]) Run(stop, work context.Context, lease Lease) (notBefore time.Time, err error) {
	r := &run[T, R]{
		Pipeline: p, Lease: lease, stop: stop, work: work,
		more: true, busy: map[string]bool{}, rate: counter{period: p.Ahead}, events: make(chan func(), unrecordedMost),
	}
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	r.forgetWakeUp() // the first claim sees what it told of
	for {
		open := stop.Err() == nil && r.err == nil && !r.over
		if open {
			r.goOn()
		} else {
			r.dropQueue()
		}
		r.writeResults()
		if len(r.busy) == 0 && !r.claiming {
			if open && (r.gather() || r.hearMore()) {
				tick.Reset(recheck)
				continue
			}
			return r.notBefore, r.err
		}
		select {
		case event := <-r.events:
			r.apply(event)
		case <-lease.Woken:
			r.more = true
		case <-tick.C:
			r.more = true
			r.over = r.over || r.hadItsTime()
		}
	}
}

// persist writes results, again and again while the database is away: a result
// given up is a message sent twice. A batch that the database refuses is written
// one by one, so that one bad row costs no other.
func (r *run[T, R]) persist(results []R) error {
	for pause := recordPause; ; pause = min(2*pause, recordPauseMax) {
		err := r.Work.Record(r.work, results)
		away := err != nil && r.Unavailable(err)
		r.stuck.Store(away)
		switch {
		case err == nil:
			return nil
		case !away && len(results) == 1:
			return err
		case !away:
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

// wait pauses for d; it is false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
