package jobs

import (
	"context"
	"errors"
	"log/slog"
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
	// complainEvery keeps a fault that lasts from filling the log.
	complainEvery = time.Minute
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
	complained time.Time
	log        *slog.Logger
}

func (d *dispatcher) run(ctx context.Context) {
	for {
		if err := d.tick(ctx); ctx.Err() == nil {
			d.heed(ctx, err)
		}
		if !wait(ctx, dispatchEvery) {
			return
		}
	}
}

// heed tells an outage, during which no lease is taken, from a fault, for which
// one row may be the cause and which must not stop the work on all others.
func (d *dispatcher) heed(ctx context.Context, err error) {
	if err == nil && !d.away.over(0) {
		_, err = d.store.Sweep(ctx, 1) // what answers reads may still refuse writes
	}
	if storage.Unavailable(err) {
		d.away.failed(err)
		return
	}
	d.away.worked()
	if now := d.now(); err != nil && now.Sub(d.complained).Abs() >= complainEvery {
		d.complained = now
		d.log.Error("looking for what is due failed in part; the rest goes on", "error", err)
	}
}

// tick does each of its parts whatever became of the others.
func (d *dispatcher) tick(ctx context.Context) error {
	return errors.Join(d.expire(ctx), d.wakeDue(ctx), d.sweep(ctx))
}

// expire ends watches at their deadline, after a last look at their operations.
func (d *dispatcher) expire(ctx context.Context) error {
	for {
		asked, err := d.store.LastPolls(ctx, expireMost)
		if err != nil {
			return err
		}
		if asked < expireMost {
			break
		}
	}
	for {
		ended, err := d.store.ExpireWatches(ctx, expireMost)
		if err != nil || ended < expireMost {
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
