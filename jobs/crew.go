package jobs

import (
	"context"
	"sync"

	"oprelay/storage"
)

// crew runs the groups that this process works through: each at most once at a
// time, and no more than a given number of a kind together, but for those that have
// stepped aside.
type crew struct {
	work  func(ctx context.Context, g storage.Group, woken <-chan struct{})
	slots map[storage.GroupKind]chan struct{}

	mu      sync.Mutex
	busy    map[storage.Group]*shift
	aside   [troubles]sideline
	stopped bool
	wg      sync.WaitGroup
	ctx     context.Context //nolint:containedctx // the crew's life, not a call's: it ends with stop
	cancel  context.CancelFunc
}

// shift is one group's run in this process.
type shift struct {
	woken chan struct{} // capacity 1: something may have become due meanwhile
	free  chan struct{} // closed when it has given its slot back
	aside *sideline     // where it is without a slot
}

func (s *shift) nudge() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

func newCrew(limits map[storage.GroupKind]int, work func(context.Context, storage.Group, <-chan struct{})) *crew {
	ctx, cancel := context.WithCancel(context.Background())
	slots := make(map[storage.GroupKind]chan struct{}, len(limits))
	for kind, n := range limits {
		slots[kind] = make(chan struct{}, n)
	}
	line := sideline{most: limits[storage.DeliverGroup] * asideShifts}
	return &crew{
		work: work, slots: slots, busy: map[storage.Group]*shift{}, aside: [troubles]sideline{line, line}, ctx: ctx, cancel: cancel,
	}
}

// wake has the group worked through soon: by the shift that is at it already, or
// by a new one. It is false, and nothing happens, if every slot is taken or the
// crew has stopped. It never blocks.
func (c *crew) wake(g storage.Group) bool {
	_, ok := c.start(g)
	return ok
}

// nudge tells the shift that is at the group, if one is, that more may be due.
func (c *crew) nudge(g storage.Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.busy[g]; ok {
		s.nudge()
	}
}

// roomy says whether fewer than half of the slots of the kind are taken, so that a
// shift may stay at its group with nothing to do.
func (c *crew) roomy(kind storage.GroupKind) bool {
	return 2*len(c.slots[kind]) < cap(c.slots[kind])
}

// full says whether every slot of the kind is taken: other groups may be waiting.
func (c *crew) full(kind storage.GroupKind) bool { return len(c.slots[kind]) == cap(c.slots[kind]) }

// run wakes the group and waits until its shift has no slot any more, or ctx ends.
func (c *crew) run(ctx context.Context, g storage.Group) {
	s, ok := c.start(g)
	if !ok {
		return
	}
	select {
	case <-s.free:
	case <-ctx.Done():
	}
}

func (c *crew) start(g storage.Group) (*shift, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.busy[g]; ok {
		s.nudge()
		return s, true
	}
	if c.stopped {
		return nil, false
	}
	select {
	case c.slots[g.Kind] <- struct{}{}:
	default:
		return nil, false
	}
	s := &shift{woken: make(chan struct{}, 1), free: make(chan struct{})}
	c.busy[g] = s
	c.wg.Go(func() { c.shift(g, s) })
	return s, true
}

func (c *crew) shift(g storage.Group, s *shift) {
	defer func() {
		c.mu.Lock()
		delete(c.busy, g)
		// Where others wait it is the dispatcher's turn to say who is next.
		again := len(s.woken) > 0 && !c.full(g.Kind)
		c.leave(g, s)
		c.mu.Unlock()
		if again {
			c.wake(g)
		}
	}()
	c.work(c.ctx, g, s.woken)
}

// refuse takes no new work from now on, and tells the shifts to take none either.
func (c *crew) refuse() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.cancel()
}

// stop refuses new work and waits until the shifts have finished what is in
// flight, or until ctx ends.
func (c *crew) stop(ctx context.Context) error {
	c.refuse()
	done := make(chan struct{})
	go func() { c.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
