package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/jobs/wake"
	"oprelay/storage"
)

// idleWait is how long a run stays at a group in which nothing is left to do, while
// more than half of its lane is free.
const idleWait = 100 * time.Millisecond

const (
	// elsewhereFor is how long a process leaves a group alone, when it hears of wake-ups, after
	// another was at it. That one hears of them as well, for at least an idleWait.
	elsewhereFor = idleWait
	// elsewhereMost bounds how many groups are remembered for that.
	elsewhereMost = 4096
)

// lane is where a group is worked on. Each has room for so many groups, so that
// destinations that fail take nothing from those that are healthy.
type lane int

const (
	pollLane lane = iota
	healthyLane
	failingLane
	lanes
)

// laneOf is the lane in which work on a group begins.
func laneOf(kind storage.GroupKind) lane {
	if kind == storage.PollGroup {
		return pollLane
	}
	return healthyLane
}

// groups are those that this process works on, each at most once at a time.
type groups struct {
	work func(ctx context.Context, g storage.Group, woken <-chan struct{})
	room [lanes]int

	mu     sync.Mutex
	active map[storage.Group]*active
	taken  [lanes]int
	// elsewhere is when another process was found at a group, see elsewhereFor.
	elsewhere map[storage.Group]time.Time

	stopped bool
	wg      sync.WaitGroup
	ctx     context.Context //nolint:containedctx // the groups' life, not a call's: it ends with stop
	cancel  context.CancelFunc
}

// active is a group that is being worked on.
type active struct {
	lane  lane
	woken chan struct{} // capacity 1: something may have become due meanwhile
	ended chan struct{}
	heard bool // it was begun by a wake-up of which all processes hear
}

func newGroups(room [lanes]int, work func(context.Context, storage.Group, <-chan struct{})) *groups {
	ctx, cancel := context.WithCancel(context.Background())
	return &groups{
		work: work, room: room, active: map[storage.Group]*active{}, elsewhere: map[storage.Group]time.Time{}, ctx: ctx, cancel: cancel,
	}
}

// wake has the group worked on soon: by whoever is at it already, or anew. It is false,
// and nothing happens, if its lane is full or all has stopped. It never blocks.
func (gs *groups) wake(g storage.Group) bool {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	a, ok := gs.active[g]
	if ok {
		a.nudge()
		return true
	}
	_, ok = gs.begin(g)
	return ok
}

// hear is told by another process that more may be due, and tells whoever works on the group
// here. If nobody does, a wake-up has it worked on at once, without a look at the queue, unless
// another process was at it just now. A nudge is for whoever is at it, and begins nothing.
func (gs *groups) hear(g storage.Group, wakeUp bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if a, ok := gs.active[g]; ok {
		a.nudge()
		return
	}
	if at, ok := gs.elsewhere[g]; !wakeUp || ok && time.Since(at) < elsewhereFor {
		return
	}
	if a, ok := gs.begin(g); ok {
		a.heard = true
	}
}

// refused notes that another process is at the group. It says whether that one has to be told
// that more may be due: of a wake-up that came through Redis it has heard itself.
func (gs *groups) refused(g storage.Group) (tell bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if len(gs.elsewhere) >= elsewhereMost {
		clear(gs.elsewhere)
	}
	gs.elsewhere[g] = time.Now()
	return !gs.active[g].heard
}

func (a *active) nudge() {
	select {
	case a.woken <- struct{}{}:
	default:
	}
}

// run has the group worked on, if nobody does here, and waits until that has ended, or ctx has.
// It is for a task, and whoever works on the group has heard of it when it was made.
func (gs *groups) run(ctx context.Context, g storage.Group) {
	gs.mu.Lock()
	a, ok := gs.active[g]
	if !ok {
		if a, ok = gs.begin(g); ok {
			a.heard = true
		}
	}
	gs.mu.Unlock()
	if !ok {
		return
	}
	select {
	case <-a.ended:
	case <-ctx.Done():
	}
}

// begin begins work on a group on which nobody works here. The caller holds mu.
func (gs *groups) begin(g storage.Group) (*active, bool) {
	in := laneOf(g.Kind)
	if gs.stopped || gs.taken[in] == gs.room[in] {
		return nil, false
	}
	a := &active{lane: in, woken: make(chan struct{}, 1), ended: make(chan struct{})}
	gs.active[g] = a
	gs.taken[in]++
	gs.wg.Go(func() {
		defer gs.end(g, a)
		gs.work(gs.ctx, g, a.woken)
	})
	return a, true
}

func (gs *groups) end(g storage.Group, a *active) {
	gs.mu.Lock()
	delete(gs.active, g)
	// Where others wait the dispatcher says who is next.
	again := len(a.woken) > 0 && gs.taken[a.lane] < gs.room[a.lane]
	gs.taken[a.lane]--
	close(a.ended)
	gs.mu.Unlock()
	if again {
		gs.wake(g)
	}
}

// fails moves the group to the lane of those that fail. It is false, and the group stays
// where it is, if that lane is full.
func (gs *groups) fails(g storage.Group) bool {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	a := gs.active[g]
	if a.lane != failingLane {
		if gs.taken[failingLane] == gs.room[failingLane] {
			return false
		}
		gs.taken[a.lane]--
		gs.taken[failingLane]++
		a.lane = failingLane
	}
	return true
}

// crowded says whether others may be waiting for the group's place.
func (gs *groups) crowded(g storage.Group) bool {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	in := gs.active[g].lane
	return gs.taken[in] == gs.room[in]
}

// idleWait is how long to stay at a group with nothing to do, in case that more comes: a
// trickle then costs no lease for each, and is heard of at once.
func (gs *groups) idleWait(g storage.Group) time.Duration {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if in := gs.active[g].lane; 2*gs.taken[in] < gs.room[in] {
		return idleWait
	}
	return 0
}

// refuse takes no new work from now on, and has what goes on take none either.
func (gs *groups) refuse() {
	gs.mu.Lock()
	gs.stopped = true
	gs.mu.Unlock()
	gs.cancel()
}

// stop refuses new work and waits until what is in flight has ended, or until ctx ends.
func (gs *groups) stop(ctx context.Context) error {
	gs.refuse()
	done := make(chan struct{})
	go func() { gs.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// StartWaker starts a waker for all kinds of group.
func StartWaker(client redis.UniversalClient, log *slog.Logger, now func() time.Time) *wake.Waker {
	return wake.Start(client, log, now, string(storage.PollGroup), string(storage.DeliverGroup))
}

// WakeBy is for [storage.Store.SetOnDue] in a process without workers.
func WakeBy(waker *wake.Waker) func([]storage.Group) {
	return func(groups []storage.Group) {
		for _, g := range groups {
			waker.Wake(nameOf(g))
		}
	}
}

func nameOf(g storage.Group) wake.Group { return wake.Group{Kind: string(g.Kind), ID: g.ID} }

func groupOf(g wake.Group) storage.Group {
	return storage.Group{Kind: storage.GroupKind(g.Kind), ID: g.ID}
}
