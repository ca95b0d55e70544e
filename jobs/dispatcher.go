package jobs

import (
	"context"
	"time"

	"oprelay/storage"
)

const (
	dispatchEvery = 250 * time.Millisecond
	dispatchMost  = 256
	// takeOverAfter is how long a group may be seen due and unattended before the
	// dispatcher stops hoping for Redis and has its own process work through it.
	takeOverAfter = time.Second
	expireMost    = 500
	sweepEvery    = time.Minute
	sweepMost     = 1000
)

// dispatcher looks at what is due in the database and has it done, whatever the
// state of Redis. Every worker process runs one: the lease keeps their work apart.
type dispatcher struct {
	store *storage.Store
	waker *Waker
	crew  *crew
	now   func() time.Time
	away  *outage // the database's
	// unattended is when each group was first seen due in the looks so far.
	unattended map[storage.Group]time.Time
	swept      time.Time
}

func (d *dispatcher) run(ctx context.Context) {
	for {
		if err := d.tick(ctx); err == nil {
			d.away.worked()
		} else if ctx.Err() == nil {
			d.away.failed(err)
		}
		if !wait(ctx, dispatchEvery) {
			return
		}
	}
}

func (d *dispatcher) tick(ctx context.Context) error {
	for {
		ended, err := d.store.ExpireWatches(ctx, expireMost)
		if err != nil {
			return err
		}
		if ended < expireMost {
			break
		}
	}
	if err := d.wakeDue(ctx); err != nil {
		return err
	}
	if now := d.now(); now.Sub(d.swept).Abs() >= sweepEvery {
		d.swept = now
		if _, err := d.store.Sweep(ctx, sweepMost); err != nil {
			return err
		}
	}
	return nil
}

func (d *dispatcher) wakeDue(ctx context.Context) error {
	groups, err := d.store.DueGroups(ctx, dispatchMost)
	if err != nil {
		return err
	}
	now := d.now()
	seen := make(map[storage.Group]time.Time, len(groups))
	for _, g := range groups {
		first, ok := d.unattended[g]
		if !ok {
			first = now
		}
		seen[g] = first
		if now.Sub(first).Abs() < takeOverAfter && d.waker.Up() && d.waker.enqueue(ctx, g) {
			continue
		}
		d.crew.wake(g)
	}
	d.unattended = seen
	return nil
}
