package jobs

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"oprelay/storage"
)

const (
	leaseTTL   = 10 * time.Second
	leaseRenew = 3 * time.Second
	// recheck is how often a group with something in flight is looked at for
	// work that others made due; work of this process announces itself.
	recheck = 500 * time.Millisecond
	// recordPause and recordPauseMax bound the pauses between tries to write
	// results while the database is away.
	recordPause    = 100 * time.Millisecond
	recordPauseMax = 500 * time.Millisecond
	// afterOutage is how long no lease is taken once the database is back, if it was
	// away for long enough that leases can have run out: their holders, who repeat
	// their writing more often than that, shall record what they have sent before
	// anybody sends it again.
	afterOutage = 2 * time.Second
)

// drain is how a group's due rows are worked through: claimed in order, done
// concurrently within a limit, and their results written together, as many as
// are there when the writer is free. T is a due row, R what came of it.
type drain[T, R any] struct {
	// claim finds at most n due rows that are not in flight. notBefore is when
	// to come back if a limit, and not the rows, was what stopped it.
	claim func(ctx context.Context, n int, inFlight map[string]bool) (rows []T, notBefore time.Time, err error)
	// limit is how many may be in flight now.
	limit func() int
	id    func(T) string
	// do works on one row. ok is false if nothing was done and there is nothing
	// to record.
	do func(ctx context.Context, row T) (result R, ok bool)
	// record writes results; it is repeated until it succeeds or stopRecording.
	record func(ctx context.Context, results []R) error
}

type finished[R any] struct {
	id     string
	result R
	ok     bool
}

// run claims, does and records until nothing is due, the lease is lost, or stop
// ends; then it waits for what is in flight. work is for the requests and writes
// themselves: it outlives stop, so that what has begun can end.
func (d *drain[T, R]) run(stop, work context.Context, woken <-chan struct{}, leased *atomic.Bool) (notBefore time.Time, err error) {
	inFlight := map[string]bool{}
	done := make(chan finished[R], 1024)
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	select {
	case <-woken: // the first claim sees what this told of
	default:
	}
	for {
		if stop.Err() == nil && leased.Load() && err == nil {
			var rows []T
			if free := d.limit() - len(inFlight); free > 0 {
				rows, notBefore, err = d.claim(work, free, inFlight)
			}
			for _, row := range rows {
				id := d.id(row)
				inFlight[id] = true
				go func() {
					result, ok := d.do(work, row)
					done <- finished[R]{id, result, ok}
				}()
			}
		}
		if len(inFlight) == 0 {
			return notBefore, err
		}
		select {
		case first := <-done:
			if e := d.settle(work, first, done, inFlight); e != nil {
				err = e
			}
		case <-woken:
		case <-tick.C:
		}
	}
}

// settle records the first result and all others that are there already.
func (d *drain[T, R]) settle(work context.Context, first finished[R], done <-chan finished[R], inFlight map[string]bool) error {
	batch := []finished[R]{first}
	for len(done) > 0 {
		batch = append(batch, <-done)
	}
	results := make([]R, 0, len(batch))
	for _, f := range batch {
		if f.ok {
			results = append(results, f.result)
		}
	}
	for _, f := range batch {
		delete(inFlight, f.id)
	}
	if len(results) == 0 {
		return nil
	}
	return d.persist(work, results)
}

// persist writes results, again and again while the database is away: a result
// given up is a message sent twice. Work ends when the process must. A batch that
// the database refuses is written one by one, so that one bad row costs no other.
func (d *drain[T, R]) persist(work context.Context, results []R) error {
	for pause := recordPause; ; pause = min(2*pause, recordPauseMax) {
		err := d.record(work, results)
		switch {
		case err == nil:
			return nil
		case !storage.Unavailable(err) && len(results) == 1:
			return err
		case !storage.Unavailable(err):
			var errs []error
			for i := range results {
				errs = append(errs, d.persist(work, results[i:i+1]))
			}
			return errors.Join(errs...)
		case !wait(work, pause):
			return err
		}
	}
}

// keepLease renews a group's lease until ctx ends. It clears leased when the
// lease is lost, or when it would run out before the next try to renew it.
func keepLease(ctx context.Context, renew func(context.Context) (bool, error), leased *atomic.Bool) {
	for expires := time.Now().Add(leaseTTL); wait(ctx, leaseRenew); {
		asked := time.Now()
		renewCtx, cancel := context.WithDeadline(ctx, earlier(asked.Add(leaseRenew), expires))
		ok, err := renew(renewCtx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && ok:
			expires = asked.Add(leaseTTL)
		case err == nil, !time.Now().Add(leaseRenew).Before(expires):
			leased.Store(false)
			return
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
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
