package jobs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"oprelay/jobs/wake"
	"oprelay/storage"
)

const (
	dispatchEvery = 250 * time.Millisecond
	// clearEvery and calmEvery are for what is in less of a hurry, and in none.
	clearEvery = 500 * time.Millisecond
	calmEvery  = time.Second
	// dispatchMost is how many groups of each kind are woken at a time, by enqueueAtOnce
	// calls to Redis at a time: it may be a millisecond away.
	dispatchMost  = 1024
	enqueueAtOnce = 16
	// takeOverAfter is how long a group may be seen due and unattended before the
	// dispatcher stops hoping for Redis and has its own process work through it.
	takeOverAfter = time.Second
	// endAtATime is how many watches end in one transaction: polls of their operations, and
	// whatever is recorded with these, wait for it.
	endAtATime = 100
	sweepEvery = time.Minute
	sweepMost  = 1000
	tellMost   = 100 // destinations whose failed deliveries are told of in one transaction
	// complainEvery keeps a fault that lasts from filling the log.
	complainEvery = time.Minute
)

// dispatcher looks at what is due in the database and has it done, whatever the
// state of Redis. Every worker process runs one: the lease keeps their work apart.
type dispatcher struct {
	store  dispatched
	waker  *wake.Waker
	groups *groups
	now    func() time.Time
	away   *outage // the database's
	// unattended is when each group was first seen due in the looks so far.
	unattended map[storage.Group]time.Time
	swept      time.Time
	alone      bool          // see [Config]
	keep       time.Duration // how long what has ended is kept; 0 is for ever
	kept       time.Time     // until when nothing is to be deleted
	log        *slog.Logger
}

// dispatched is what a dispatcher needs of the store. EndRemaining, LastPolls and
// ExpireWatches each take up to limit watches and say how many; if that is limit, more may be left.
type dispatched interface {
	DueGroups(ctx context.Context, limit int) ([]storage.Group, error)
	EndRemaining(ctx context.Context, limit int) (int, error)
	LastPolls(ctx context.Context, limit int) (int, error)
	ExpireWatches(ctx context.Context, limit int) (int, error)
	DeleteOld(ctx context.Context, keep time.Duration) (pause time.Duration, err error)
	Sweep(ctx context.Context, limit int) (int, error)
	SweepSessions(ctx context.Context, limit int) (int, error)
	TellFailed(ctx context.Context, limit int) (int, error)
	Writable(ctx context.Context) error
}

// run wakes what is due in one loop, ends what is over in another, tells of what failed in a
// third, and deletes what is old in a fourth: a hundred thousand watches that expire together delay
// nobody's polls, retries and alerts.
func (d *dispatcher) run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { d.repeat(ctx, dispatchEvery, d.wakeDue) })
	loops.Go(func() { d.repeat(ctx, clearEvery, d.clear) })
	loops.Go(func() { d.repeat(ctx, calmEvery, d.tell) })
	if d.keep > 0 {
		loops.Go(func() { d.repeat(ctx, calmEvery, d.deleteOld) })
	}
	loops.Wait()
}

func (d *dispatcher) repeat(ctx context.Context, every time.Duration, tick func(context.Context) error) {
	var complained time.Time
	for {
		if err := tick(ctx); ctx.Err() == nil {
			complained = d.complain(ctx, err, complained)
		}
		if !wait(ctx, every) {
			return
		}
	}
}

// complain tells an outage, during which no lease is taken, from a fault, for which
// one row may be the cause and which must not stop the work on all others. It
// returns when it complained of one last.
func (d *dispatcher) complain(ctx context.Context, err error, complained time.Time) time.Time {
	if err == nil {
		err = d.store.Writable(ctx) // what answers reads may still refuse writes
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
		remaining, errRemaining := d.store.EndRemaining(ctx, endAtATime)
		asked, errAsked := d.store.LastPolls(ctx, endAtATime)
		expired, errExpired := d.store.ExpireWatches(ctx, endAtATime)
		if err := errors.Join(errRemaining, errAsked, errExpired); err != nil || max(remaining, asked, expired) < endAtATime {
			return err
		}
	}
}

// tell tells of the deliveries that have failed for good, a few destinations each time: none is in
// a hurry, for each waits for others.
func (d *dispatcher) tell(ctx context.Context) error {
	_, err := d.store.TellFailed(ctx, tellMost)
	return err
}

// deleteOld deletes what is old, with a pause after each step, until it is to pause for longer
// than to the next look.
func (d *dispatcher) deleteOld(ctx context.Context) error {
	for !d.now().Before(d.kept) {
		pause, err := d.store.DeleteOld(ctx, d.keep)
		if err != nil {
			return err
		}
		if pause > calmEvery {
			d.kept = d.now().Add(pause)
		} else if !wait(ctx, pause) {
			return nil
		}
	}
	return nil
}

// sweep forgets a little at each tick until nothing is left, and then pauses.
func (d *dispatcher) sweep(ctx context.Context) error {
	now := d.now()
	if now.Sub(d.swept).Abs() < sweepEvery {
		return nil
	}
	forgotten, errForgotten := d.store.Sweep(ctx, sweepMost)
	sessions, errSessions := d.store.SweepSessions(ctx, sweepMost)
	err := errors.Join(errForgotten, errSessions)
	if err == nil && max(forgotten, sessions) < sweepMost {
		d.swept = now
	}
	return err
}

// wakeDue puts a wake-up into Redis for each of the groups that have waited longest. It wakes a
// group in this process instead if that is alone, if Redis does not take it, or if nobody has
// leased the group for takeOverAfter.
func (d *dispatcher) wakeDue(ctx context.Context) error {
	due, err := d.store.DueGroups(ctx, dispatchMost)
	if err != nil {
		return err
	}
	now := d.now()
	seen := make(map[storage.Group]time.Time, len(due))
	var enqueuing errgroup.Group
	enqueuing.SetLimit(enqueueAtOnce)
	for _, g := range due {
		first, ok := d.unattended[g]
		if !ok {
			first = now
		}
		seen[g] = first
		if d.alone || now.Sub(first).Abs() >= takeOverAfter || !d.waker.Up() {
			d.groups.wake(g)
			continue
		}
		enqueuing.Go(func() error {
			if !d.waker.Enqueue(ctx, nameOf(g)) {
				d.groups.wake(g)
			}
			return nil
		})
	}
	d.unattended = seen
	return enqueuing.Wait()
}
