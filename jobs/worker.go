// Package jobs does the relay's waiting and working: it polls the operations that are
// watched and delivers the events that came of it. Every promise is a row in SQL; whoever
// holds the lease of a group of rows works on what is due in it. A wake-up that is lost,
// doubled, late or stale does no harm, and a process that dies leaves a lease that runs out.
package jobs

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"oprelay/jobs/deliver"
	"oprelay/jobs/pipeline"
	"oprelay/jobs/poll"
	"oprelay/jobs/wake"
	"oprelay/storage"
)

const (
	// pollRoom, healthyRoom and failingRoom are how many groups of a lane one process works
	// on at a time. What hangs, a destination or the budgets of an upstream, keeps its places
	// for one timeout, so the lanes of those that are healthy are wide.
	pollRoom    = 1024
	healthyRoom = 1024
	failingRoom = 256
	// afterOutage is how long no lease is taken once the database is back, if it was
	// away for long enough that leases can have run out: their holders, who repeat
	// their writing more often than that, shall record what they have sent before
	// anybody sends it again.
	afterOutage = 2 * time.Second
	// confirmReturn is how long the database has to work before its return is logged.
	confirmReturn = 5 * time.Second
	// errorPause keeps a group whose work fails from being tried in a loop.
	errorPause = 5 * time.Second
	// A group that is due again within soon is woken by a timer, the dispatcher finds the others.
	// The timer takes at least breath, so that a group that is due again and again does not spin.
	soon   = 2 * time.Second
	breath = 10 * time.Millisecond
	// releasePause is the pause between tries to give a lease back while the database is away.
	releasePause = 500 * time.Millisecond
	// cutOffGrace is how long what was cut off may take to notice it.
	cutOffGrace = time.Second
)

// Config is what a worker is made of.
type Config struct {
	Store     *storage.Store
	Waker     *wake.Waker
	Poller    *poll.Poller
	Deliverer *deliver.Deliverer
	// Alone says that no other process has this store and this Redis. Then nothing goes by way
	// of Redis: with nobody to share the work with, its tasks would only wake this process.
	Alone bool
	// Retention is how long what has ended is kept; 0 is for ever.
	Retention time.Duration
	Logger    *slog.Logger
	Metrics   prometheus.Registerer // nil for none

	healthyRoom, failingRoom int // for tests; 0 is the default
}

// room is how many groups of each lane are worked on at a time.
func (cfg Config) room() (room [lanes]int) {
	room[pollLane] = pollRoom
	room[healthyLane] = cmp.Or(cfg.healthyRoom, healthyRoom)
	room[failingLane] = cmp.Or(cfg.failingRoom, failingRoom)
	return room
}

// Worker polls and delivers until it is stopped.
type Worker struct {
	store     *storage.Store
	waker     *wake.Waker
	log       *slog.Logger
	now       func() time.Time // steady, as all that is called now here
	owner     string
	alone     bool
	groups    *groups
	leases    *leases
	poller    *poll.Poller
	deliverer *deliver.Deliverer
	servers   wake.Servers
	away      *outage
	// leasesLost ran out or were taken over while this process worked, by the group's kind.
	leasesLost *prometheus.CounterVec

	cutOff   context.CancelFunc // cuts off what is in flight
	stopTick context.CancelFunc
	ticking  sync.WaitGroup
}

// StartWorker starts working. It needs neither Redis nor the database to answer
// yet.
func StartWorker(cfg Config) (*Worker, error) {
	work, cutOff := context.WithCancel(context.Background())
	w := newWorker(work, cfg)
	w.cutOff = cutOff
	ctx, cancel := context.WithCancel(context.Background())
	w.stopTick = cancel
	d := &dispatcher{
		store: cfg.Store, waker: cfg.Waker, groups: w.groups, now: cfg.Store.Steady, away: w.away, keep: cfg.Retention, log: cfg.Logger,
		alone: cfg.Alone,
	}
	if !cfg.Alone {
		if err := w.serve(cfg.room()); err != nil {
			cutOff()
			cancel()
			return nil, err
		}
		w.ticking.Go(func() { w.hear(ctx) })
	}
	w.ticking.Go(func() { d.run(ctx) })
	w.ticking.Go(func() { w.leases.keep(work) })
	w.ticking.Go(func() { w.poller.ForgetSecrets(ctx) })
	return w, nil
}

// serve takes tasks from Redis.
func (w *Worker) serve(room [lanes]int) (err error) {
	w.servers, err = w.waker.Serve(wake.ServerConfig{
		Concurrency: map[string]int{
			string(storage.PollGroup): room[pollLane], string(storage.DeliverGroup): room[healthyLane] + room[failingLane],
		},
		Handle: func(ctx context.Context, g wake.Group) { w.groups.run(ctx, groupOf(g)) },
	})
	return err
}

// newWorker makes a worker that does not work yet. work bounds what will be in flight.
func newWorker(work context.Context, cfg Config) *Worker {
	w := &Worker{
		store: cfg.Store, waker: cfg.Waker, poller: cfg.Poller, deliverer: cfg.Deliverer,
		log: cfg.Logger, now: cfg.Store.Steady, owner: rand.Text(), alone: cfg.Alone,
		away: &outage{
			log: cfg.Logger, complaint: storage.Complaint, now: cfg.Store.Steady,
			harmless: leaseTTL / 2, confirm: confirmReturn,
		},
	}
	w.leases = &leases{store: cfg.Store, owner: w.owner, held: map[storage.Group]*lease{}}
	w.register(promauto.With(cfg.Metrics))
	w.groups = newGroups(cfg.room(),
		func(stop context.Context, g storage.Group, woken <-chan struct{}) { w.workOn(stop, work, g, woken) })
	return w
}

// register registers the worker's metrics. All kinds are there from the start, for what
// appears at 1 has no rate.
func (w *Worker) register(auto promauto.Factory) {
	w.leasesLost = auto.NewCounterVec(prometheus.CounterOpts{
		Name: "relay_leases_lost_total", Help: "Leases that ran out or were taken over while this process worked, by kind.",
	}, []string{"kind"})
	recorded := auto.NewHistogramVec(prometheus.HistogramOpts{
		Name: "relay_recorded_batch_rows", Help: "Results that one commit recorded, by kind.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 11),
	}, []string{"kind"})
	for _, kind := range []storage.GroupKind{storage.PollGroup, storage.DeliverGroup} {
		w.leasesLost.WithLabelValues(string(kind))
		recorded.WithLabelValues(string(kind))
	}
	w.store.SetOnRecorded(func(kind storage.GroupKind, results int) {
		recorded.WithLabelValues(string(kind)).Observe(float64(results))
	})
}

// hear passes on what other processes tell, until ctx ends.
func (w *Worker) hear(ctx context.Context) {
	w.waker.HearNudges(ctx, func(g wake.Group, wakeUp bool) { w.groups.hear(groupOf(g), wakeUp) })
}

// Wake works through groups that a commit of this process has made due: here and
// at once, or by way of Redis if this process is busy. Alone, it leaves them to the dispatcher
// then. It never blocks.
func (w *Worker) Wake(groups []storage.Group) {
	for _, g := range groups {
		if !w.groups.wake(g) && !w.alone {
			w.waker.Wake(nameOf(g))
		}
	}
}

// Stop takes no new work and waits for what is in flight, until ctx ends: then
// it is cut off, and found again by another worker when its lease has run out.
func (w *Worker) Stop(ctx context.Context) error {
	w.groups.refuse() // before asynq stops, which may wait for Redis
	w.stopTick()
	w.servers.Stop()
	err := w.groups.stop(ctx)
	w.cutOff()
	soon, done := context.WithTimeout(context.WithoutCancel(ctx), cutOffGrace)
	defer done()
	_ = w.groups.stop(soon) // once more, for err says already what matters
	w.servers.Shutdown()
	w.ticking.Wait()
	w.deliverer.FlushLog()
	return err
}

// workOn works on one group, and again soon if more is due then. It takes no new work
// when stop ends; work bounds what is in flight.
func (w *Worker) workOn(stop, work context.Context, g storage.Group, woken <-chan struct{}) {
	next, err := w.run(stop, work, g, woken)
	pause := next.Sub(w.now())
	switch {
	case err != nil && work.Err() == nil:
		w.report(g, err)
	case err != nil, next.IsZero(), stop.Err() != nil, pause >= soon:
	case pause <= 0 && w.groups.crowded(g): // whoever has waited longest is next
	default:
		time.AfterFunc(max(pause, breath), func() { w.groups.wake(g) })
	}
}

// run takes the group's lease, does what is due, and gives the lease back. It
// returns when the group is due next, zero if never or if another worker has it.
func (w *Worker) run(stop, work context.Context, g storage.Group, woken <-chan struct{}) (time.Time, error) {
	if !w.away.over(afterOutage) {
		return time.Time{}, nil
	}
	asked := time.Now()
	leased, err := w.store.LeaseGroup(work, g, w.owner, leaseTTL)
	if errors.Is(err, storage.ErrOutcomeUnknown) {
		_, releaseErr := w.release(work, g, storage.Pause{})
		return time.Time{}, errors.Join(err, releaseErr)
	}
	if err == nil && !leased && w.groups.refused(g) && !w.alone && w.waker.Up() { // the lease is another's
		w.waker.Nudge(work, nameOf(g))
	}
	if err != nil || !leased {
		return time.Time{}, err
	}
	held, lose := context.WithCancelCause(stop)
	defer lose(nil)
	w.leases.hold(g, asked, func() { lose(storage.ErrLeaseLost) })
	limit, err := w.do(held, work, g, woken)
	w.leases.letGo(g)
	if errors.Is(err, storage.ErrLeaseLost) || errors.Is(context.Cause(held), storage.ErrLeaseLost) {
		w.leasesLost.WithLabelValues(string(g.Kind)).Inc()
		return time.Time{}, nil
	}
	if pause := w.now().Add(errorPause); err != nil && !storage.Unavailable(err) && pause.After(limit.Until) {
		limit = storage.Pause{Until: pause}
	}
	next, releaseErr := w.release(work, g, limit)
	return next, errors.Join(err, releaseErr)
}

// do does what is due in the leased group.
func (w *Worker) do(stop, work context.Context, g storage.Group, woken <-chan struct{}) (limit storage.Pause, err error) {
	lease := pipeline.Lease{
		Group: g.ID, Owner: w.owner, Woken: woken,
		IdleWait: func() time.Duration { return w.groups.idleWait(g) },
		Crowded:  func() bool { return w.groups.crowded(g) },
	}
	if g.Kind == storage.PollGroup {
		return w.poller.Run(stop, work, lease)
	}
	limit.Until, err = w.deliverer.Run(stop, work, lease, func() bool { return w.groups.fails(g) })
	return limit, err
}

// release gives the group's lease back, as soon as the database takes it: a lease
// that is not given back keeps everybody from the group until it has run out.
func (w *Worker) release(work context.Context, g storage.Group, limit storage.Pause) (next time.Time, err error) {
	for end := time.Now().Add(leaseTTL); ; {
		next, err = w.store.ReleaseGroup(work, g, w.owner, limit)
		switch {
		case errors.Is(err, storage.ErrLeaseLost):
			return time.Time{}, nil
		case err == nil, !storage.Unavailable(err), time.Now().After(end), !wait(work, releasePause):
			return next, err
		}
	}
}

// report logs why a group's work failed: an absent database once for all groups,
// anything else each time.
func (w *Worker) report(g storage.Group, err error) {
	if storage.Unavailable(err) {
		w.away.failed(err)
		return
	}
	w.log.Error("a group's work failed; it is tried again", "kind", string(g.Kind), "group", g.ID,
		"pause", errorPause, "error", err)
}
