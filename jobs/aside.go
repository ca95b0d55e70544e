package jobs

import "oprelay/storage"

// trouble is why a shift goes on without a slot.
type trouble int

const (
	hanging trouble = iota // its turn is over, and its requests are still under way
	failing                // the last that was heard of its destination is a failure
	troubles
)

// asideShifts is how many shifts of one trouble go on without a slot for each slot that
// there is: each costs the renewals of its lease. Their requests are bounded by throng.
const asideShifts = 2

// sideline is where the shifts of one trouble are.
type sideline struct{ shifts, most int }

func (l *sideline) full() bool { return l.shifts == l.most }

// stepAside has the shift that is at the group go on without its slot, so that what
// is slow or fails does not keep it from others. Nothing else changes: the group is
// still being worked through, and stop waits for it. It is false, and the slot is
// kept, if too many have stepped aside; true if this one had already.
func (c *crew) stepAside(g storage.Group, why trouble) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, line := c.busy[g], &c.aside[why]
	switch {
	case s.aside != nil:
		return true
	case line.full():
		return false
	}
	line.shifts++
	s.aside = line
	c.free(g, s)
	return true
}

// crowded says whether others may be waiting for what the shift at the group has:
// its slot, or its place among those that fail. One that hangs has no more to do.
func (c *crew) crowded(g storage.Group) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s := c.busy[g]; s.aside {
	case nil:
		return c.full(g.Kind)
	case &c.aside[hanging]:
		return true
	default:
		return s.aside.full()
	}
}

// leave takes the shift away from where it is. The caller holds the lock.
func (c *crew) leave(g storage.Group, s *shift) {
	if s.aside == nil {
		c.free(g, s)
		return
	}
	s.aside.shifts--
}

func (c *crew) free(g storage.Group, s *shift) {
	<-c.slots[g.Kind]
	close(s.free)
}
