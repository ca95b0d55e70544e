package jobs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"oprelay/storage"
)

const (
	dispatchEvery = 250 * time.Millisecond
	// dispatchMost is how many groups are woken at a time, by enqueueAtOnce calls to
	// Redis at a time: it may be a millisecond away.
	dispatchMost  = 1024
	enqueueAtOnce = 16
	// takeOverAfter is how long a group may be seen due and unattended before the
	// dispatcher stops hoping for Redis and has its own process work through it.
	takeOverAfter = time.Second
	// endMost is how many watches end in one transaction: polls of their operations, and
	// whatever is recorded with these, wait for it.
	endMost    = 100
	sweepEvery = time.Minute
	sweepMost  = 1000
	// complainEvery keeps a fault that lasts from filling the log.
	complainEvery = time.Minute
)

// dispatcher looks at what is due in the database and has it done, whatever the
// state of Redis. Every worker process runs one: the lease keeps their work apart.
type dispatcher struct {
	store dispatched
	waker *Waker
	crew  *crew
	now   func() time.Time
	away  *outage // the database's
	// unattended is when each group was first seen due in the looks so far.
	unattended map[storage.Group]time.Time
	swept      time.Time
	log        *slog.Logger
}

// dispatched is what a dispatcher needs of the store.
type dispatched interface {
	endings

	DueGroups(ctx context.Context, limit int) ([]storage.Group, error)
	Sweep(ctx context.Context, limit int) (int, error)
}

// endings are of watches, by themselves. Each says how many it took; where these are
// as many as it might, more are left.
type endings interface {
	EndRest(ctx context.Context, limit int) (int, error)
	LastPolls(ctx context.Context, limit int) (int, error)
	ExpireWatches(ctx context.Context, limit int) (int, error)
}

// run wakes what is due in one loop and ends what is over in another: a hundred
// thousand watches that expire together delay nobody's polls and retries.
func (d *dispatcher) run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { d.repeat(ctx, d.wakeDue) })
	loops.Go(func() { d.repeat(ctx, d.clear) })
	loops.Wait()
}

func (d *dispatcher) repeat(ctx context.Context, tick func(context.Context) error) {
	var complained time.Time
	for {
		if err := tick(ctx); ctx.Err() == nil {
			complained = d.heed(ctx, err, complained)
		}
		if !wait(ctx, dispatchEvery) {
			return
		}
	}
}

// heed tells an outage, during which no lease is taken, from a fault, for which
// one row may be the cause and which must not stop the work on all others. It
// returns when it complained of one last.
func (d *dispatcher) heed(ctx context.Context, err error, complained time.Time) time.Time {
	if err == nil && !d.away.over(0) {
		_, err = d.store.Sweep(ctx, 1) // what answers reads may still refuse writes
	}
	if storage.Unavailable(err) {
		d.away.failed(err)
		return complained
	}
	d.away.worked()
	now := d.now()
	if err == nil || now.Sub(complained).Abs() < complainEvery {
		return complained
	}
	d.log.Error("looking for what is due failed in part; the rest goes on", "error", err)
	return now
}

// clear does each of its parts whatever became of the others.
func (d *dispatcher) clear(ctx context.Context) error {
	return errors.Join(d.end(ctx), d.sweep(ctx))
}

// end ends watches whose operation is over, or their deadline after a last look at
// their operations: a few of each in turn, until none is left.
func (d *dispatcher) end(ctx context.Context) error {
	for {
		rest, failed := d.store.EndRest(ctx, endMost)
		asked, err := d.store.LastPolls(ctx, endMost)
		if err != nil {
			return errors.Join(failed, err)
		}
		expired, err := d.store.ExpireWatches(ctx, endMost)
		if err = errors.Join(failed, err); err != nil || max(rest, asked, expired) < endMost {
			return err
		}
	}
}

// sweep forgets a little at each tick until nothing is left, and then rests.
func (d *dispatcher) sweep(ctx context.Context) error {
	now := d.now()
	if now.Sub(d.swept).Abs() < sweepEvery {
		return nil
	}
	n, err := d.store.Sweep(ctx, sweepMost)
	if err == nil && n < sweepMost {
		d.swept = now
	}
	return err
}

// wakeDue wakes the groups that have waited longest. Who has not been found by
// another process within takeOverAfter is woken here.
func (d *dispatcher) wakeDue(ctx context.Context) error {
	groups, err := d.store.DueGroups(ctx, dispatchMost)
	if err != nil {
		return err
	}
	now := d.now()
	seen := make(map[storage.Group]time.Time, len(groups))
	var enqueuing errgroup.Group
	enqueuing.SetLimit(enqueueAtOnce)
	for _, g := range groups {
		first, ok := d.unattended[g]
		if !ok {
			first = now
		}
		seen[g] = first
		if now.Sub(first).Abs() >= takeOverAfter || !d.waker.Up() {
			d.crew.wake(g)
			continue
		}
		enqueuing.Go(func() error {
			if !d.waker.enqueue(ctx, g) {
				d.crew.wake(g)
			}
			return nil
		})
	}
	d.unattended = seen
	return enqueuing.Wait()
}
