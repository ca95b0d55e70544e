package jobs

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/storage"
)

// A fault of one part is complained about now and then, and stops nothing; only an
// outage does, until a write works again.
func TestFaultIsNoOutage(t *testing.T) {
	t.Parallel()
	r := newRelay(t, sqliteBackend())
	log, written := newLog()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	d := &dispatcher{store: r.store, now: clock, log: log, away: &outage{log: log, complaint: storage.Complaint, now: clock}}
	fault := errors.New("a row that cannot be read")
	if storage.Unavailable(fault) {
		t.Fatal("the fault counts as an outage")
	}
	var complained time.Time
	for range 3 {
		complained = d.complain(t.Context(), fault, complained)
		if !d.away.over(afterOutage) {
			t.Fatal("a fault stops the work")
		}
	}
	if n := len(written.holding("failed in part")); n != 1 {
		t.Errorf("complained %d times within a minute", n)
	}
	d.away.failed(errors.New("gone"))
	if d.away.over(0) {
		t.Error("an outage does not stop the work")
	}
	d.complain(t.Context(), nil, complained)
	if !d.away.over(0) || d.away.over(afterOutage) {
		t.Error("work goes on at once after an outage, or not at all")
	}
	now = now.Add(afterOutage)
	if !d.away.over(afterOutage) {
		t.Error("work does not go on after an outage")
	}
}

// crowd is a store in which many groups are due, and watches that are over are ended
// without an end.
type crowd struct {
	due    int
	looked atomic.Int64
	took   sync.Map // whether each of its parts was asked to end something
}

// DueGroups implements dispatched.
func (c *crowd) DueGroups(_ context.Context, limit int) ([]storage.Group, error) {
	c.looked.Add(1)
	groups := make([]storage.Group, min(c.due, limit))
	for i := range groups {
		groups[i] = storage.Group{Kind: storage.DeliverGroup, ID: strconv.Itoa(i)}
	}
	return groups, nil
}

// EndRemaining implements dispatched.
func (c *crowd) EndRemaining(ctx context.Context, limit int) (int, error) {
	return c.full(ctx, "remaining", limit)
}

// LastPolls implements dispatched.
func (c *crowd) LastPolls(ctx context.Context, limit int) (int, error) {
	return c.full(ctx, "last polls", limit)
}

// ExpireWatches implements dispatched.
func (c *crowd) ExpireWatches(ctx context.Context, limit int) (int, error) {
	return c.full(ctx, "expired", limit)
}

// DeleteOld implements dispatched.
func (c *crowd) DeleteOld(ctx context.Context, _ time.Duration) (time.Duration, error) {
	_, err := c.full(ctx, "deleted", 0)
	return 0, err
}

// Sweep implements dispatched.
func (c *crowd) Sweep(ctx context.Context, limit int) (int, error) {
	return c.full(ctx, "swept", limit)
}

// SweepSessions implements dispatched.
func (c *crowd) SweepSessions(ctx context.Context, limit int) (int, error) {
	return c.full(ctx, "swept sessions", limit)
}

// TellFailed implements dispatched.
func (c *crowd) TellFailed(ctx context.Context, limit int) (int, error) {
	return c.full(ctx, "told", limit)
}

// Writable implements dispatched.
func (*crowd) Writable(context.Context) error { return nil }

func (c *crowd) full(ctx context.Context, part string, limit int) (int, error) {
	c.took.Store(part, true)
	wait(ctx, time.Second/10)
	return limit, ctx.Err()
}

// faulty is a store in which one part of what ends watches fails for good.
type faulty struct {
	crowd

	expired int
}

var errFaulty = errors.New("a row that cannot be read")

// LastPolls implements dispatched.
func (*faulty) LastPolls(context.Context, int) (int, error) { return 0, errFaulty }

// ExpireWatches implements dispatched.
func (f *faulty) ExpireWatches(context.Context, int) (int, error) { f.expired++; return 0, nil }

// What is wrong with one watch keeps no other from its end.
func TestPartsThatEndWatchesFailAlone(t *testing.T) {
	t.Parallel()
	store := &faulty{}
	d := &dispatcher{store: store}
	if err := d.end(t.Context()); !errors.Is(err, errFaulty) || store.expired != 1 {
		t.Errorf("%v, and %d looks at what has expired", err, store.expired)
	}
}

// distantRedis answers all after a millisecond, and notes which tasks it was given.
type distantRedis struct {
	mu    sync.Mutex
	tasks map[any]bool
}

func (*distantRedis) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*distantRedis) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (d *distantRedis) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		wait(ctx, time.Millisecond)
		if script, ok := cmd.(*redis.Cmd); ok {
			script.SetVal(int64(1))
			d.mu.Lock()
			defer d.mu.Unlock()
			d.tasks[cmd.Args()[3]] = true // its key
		}
		return nil
	}
}

// However many watches are over, what is due is looked for as often as ever, and a
// thousand groups are woken each time, though Redis is not near.
func TestWatchesThatAreOverDelayNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		far := &distantRedis{tasks: map[any]bool{}}
		client := redis.NewClient(&redis.Options{Addr: "redis.invalid:6379"})
		client.AddHook(far)
		log := slog.New(slog.DiscardHandler)
		w := StartWaker(client, log, time.Now)
		defer w.Stop()
		store := &crowd{due: 1000}
		d := &dispatcher{
			store: store, waker: w, now: time.Now, log: log, away: &outage{log: log, complaint: storage.Complaint, now: time.Now},
			groups: newGroups(room(1), func(context.Context, storage.Group, <-chan struct{}) {}), keep: time.Hour,
		}
		ctx, cancel := context.WithTimeout(t.Context(), takeOverAfter)
		defer cancel()
		d.run(ctx)
		if n := store.looked.Load(); n < 3 {
			t.Errorf("looked %d times for what is due within a second", n)
		}
		for _, part := range []string{"remaining", "last polls", "expired", "told", "deleted"} {
			if _, ok := store.took.Load(part); !ok {
				t.Errorf("nothing was asked of %s", part)
			}
		}
		if len(far.tasks) != store.due {
			t.Errorf("%d of %d groups were woken", len(far.tasks), store.due)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
}
