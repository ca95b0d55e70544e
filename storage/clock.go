package storage

import (
	"sync/atomic"
	"time"
)

// stepNoticed is how far the two clocks may be apart until times are converted:
// so little is shown as it is kept.
const stepNoticed = 2 * time.Second

// clock tells two times. The wall time dates what people read. The steady time is
// what work waits by: it goes on as the wall clock was at the beginning, however
// that is set afterwards, so a step makes nothing due, late or free.
type clock struct {
	wall    func() time.Time
	elapsed func() time.Duration
	// zero is the steady time at which elapsed was none, in microseconds.
	zero atomic.Int64
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
	ahead := db.now().Sub(db.steady()).Round(time.Second)
	if steady.IsZero() || ahead.Abs() < stepNoticed {
		return steady
	}
	return steady.Add(ahead)
}

// Dated is what the wall clock, as it is set now, shows at a steady time.
func (s *Store) Dated(steady time.Time) time.Time { return s.db.dated(steady) }

// Steady is the current steady time: the one by which work is due, leases end
// and limits are over. It equals the wall time until that is set, and goes on
// undisturbed when it is; in all processes it is the same.
func (s *Store) Steady() time.Time { return s.db.steady() }
