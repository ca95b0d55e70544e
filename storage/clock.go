package storage

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"oprelay/storage/sqldb"
)

// clock tells two times. The wall time dates what people read. The steady time is
// what work waits by: leases, due times, budgets, deadlines. It begins as the wall time
// and goes on by the monotonic clock, so that setting the wall clock makes nothing due,
// late or free. A column holds one of the two for good; never compare one with the other.
type clock struct {
	wall    func() time.Time
	elapsed func() time.Duration
	zero    atomic.Int64 // the steady time when elapsed was 0, in microseconds
}

// newClock starts with both times alike.
func newClock(wall func() time.Time, elapsed func() time.Duration) *clock {
	if wall == nil {
		wall = time.Now
	}
	if elapsed == nil {
		began := wall()
		elapsed = func() time.Duration { return wall().Sub(began) }
	}
	c := &clock{wall: wall, elapsed: elapsed}
	c.set(wall())
	return c
}

// steady is the steady time as it is stored.
func (c *clock) steady() time.Time {
	return time.UnixMicro(c.zero.Load() + c.elapsed().Microseconds()).UTC()
}

// set makes the steady time at.
func (c *clock) set(at time.Time) { c.zero.Store(at.UnixMicro() - c.elapsed().Microseconds()) }

// now is the current wall time as it is stored.
func (db *database) now() time.Time { return db.clock.wall().UTC().Truncate(time.Microsecond) }

// steady is the current steady time as it is stored.
func (db *database) steady() time.Time { return db.clock.steady() }

// dated is for Dated.
func (db *database) dated(steady time.Time) time.Time {
	const same = 2 * time.Second // clocks that are so close show the same time
	ahead := db.now().Sub(db.steady()).Round(time.Second)
	if steady.IsZero() || ahead.Abs() < same {
		return steady
	}
	return steady.Add(ahead)
}

// Dated is what the wall clock, as it is set now, shows at a steady time.
func (s *Store) Dated(steady time.Time) time.Time { return s.db.dated(steady) }

// Steady is the current steady time, by which work is due, leases end and limits are
// over. All processes have the same one.
func (s *Store) Steady() time.Time { return s.db.steady() }

const (
	// heartbeatEvery is how often a process tells the others its steady time.
	heartbeatEvery = time.Second
	// heartbeatAlone is how often, where there are no others: each is a write to disk.
	heartbeatAlone = 10 * time.Second
	// heartbeatSilence is after how long without a heartbeat no process is running.
	heartbeatSilence = 5 * heartbeatEvery / 2
	// heartbeatFresh is how old the last heartbeat may look while others are running.
	heartbeatFresh = 2 * time.Second
)

// heartbeat is the steady time that a process wrote last, and what its wall clock showed.
type heartbeat struct{ steady, wall time.Time }

func (db *database) lastHeartbeat(ctx context.Context) (heartbeat, error) {
	return sqldb.One(ctx, db, func(row sqldb.Row) (h heartbeat, err error) {
		err = row.Scan(sqldb.Time(&h.steady), sqldb.Time(&h.wall))
		return h, err
	}, `SELECT steady, wall FROM steady_clock WHERE id = 1`)
}

// JoinClock adopts the steady time of the processes that are running. If none is, the
// steady time goes on from where the last one stopped, by what the wall clock has gone on
// since: a night without the relay counts as a night. (A clock that was set forward meanwhile
// is believed: retries come early, and a budget may be spent once more.) To find out takes a
// moment. Call it before any work is taken, and KeepClock from then on.
func (s *Store) JoinClock(ctx context.Context) (err error) {
	defer wrapf(&err, "join the clock")
	last, err := s.db.lastHeartbeat(ctx)
	if err == nil {
		err = s.adopt(ctx, last)
	}
	if err == nil || errors.Is(err, ErrNotFound) { // the first process ever
		err = s.Heartbeat(ctx)
	}
	return err
}

// adopt goes on from a heartbeat. One that looks old was written by a process that has
// stopped, or by one whose wall clock is behind this one's: then another comes soon.
func (s *Store) adopt(ctx context.Context, last heartbeat) error {
	if s.db.now().Sub(last.wall) > heartbeatFresh && !s.db.OneProcess {
		if err := sleep(ctx, heartbeatSilence); err != nil {
			return err
		}
		next, err := s.db.lastHeartbeat(ctx)
		if err != nil {
			return err
		}
		if !next.steady.Equal(last.steady) {
			s.db.clock.set(next.steady)
			return nil
		}
	}
	s.db.clock.set(last.steady.Add(max(s.db.now().Sub(last.wall), 0)))
	return nil
}

// sleep waits for a while, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// KeepClock keeps the steady time of all processes together until ctx ends. During an
// outage of the database each goes on by itself. As it always changes a row, it also
// notices an outage, and the end of one, see [Store.Writable].
func (s *Store) KeepClock(ctx context.Context) {
	for {
		every := heartbeatEvery
		if err := s.Heartbeat(ctx); err == nil && s.db.OneProcess {
			every = heartbeatAlone
		}
		if sleep(ctx, every) != nil {
			return
		}
	}
}

// Heartbeat writes a heartbeat, and adopts the steady time of a process that is ahead.
// It is one statement: a process that is stopped in the middle of it locks nobody out.
func (s *Store) Heartbeat(ctx context.Context) (err error) {
	defer wrapf(&err, "keep the clock")
	latest, err := sqldb.One(ctx, s.db.Writer(), sqldb.Int, `INSERT INTO steady_clock (id, steady, wall) VALUES (1, $1, $2)
		ON CONFLICT (id) DO UPDATE SET steady = `+s.db.Greatest+`(steady_clock.steady, excluded.steady),
		wall = excluded.wall RETURNING steady`, s.db.steady().UnixMicro(), s.db.now().UnixMicro())
	if err != nil {
		return err
	}
	s.db.SetHealthy(true)
	if at := time.UnixMicro(latest); at.After(s.db.steady()) {
		s.db.clock.set(at)
	}
	return nil
}
