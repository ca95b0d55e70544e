package jobs

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"oprelay/storage"
)

const (
	// pollShifts and deliverShifts are how many groups of a kind one process works
	// through at a time, without those that have stepped aside.
	pollShifts    = 128
	deliverShifts = 256
	// shiftRounds bounds how often a shift goes on with its group at once; after
	// that it is the dispatcher's turn to say when.
	shiftRounds = 3
	// errorPause keeps a group whose work fails from being tried in a loop.
	errorPause = 5 * time.Second
	// soon is how near a group's next work must be for a timer of its own.
	soon = 2 * time.Second
	// asynqGrace is short because the crew has waited already when asynq is told
	// to stop.
	asynqGrace = time.Second
	// linger is how long a shift stays at a group in which nothing is left to do.
	linger = 100 * time.Millisecond
	// cutOffGrace is how long what was cut off may take to notice it.
	cutOffGrace = time.Second
	// CheckInterval is how often an idle worker looks at its queue by default: what
	// another process has registered waits for that.
	CheckInterval = 50 * time.Millisecond
	// EmbeddedCheckInterval is for a worker whose Redis is the embedded one. Commits are
	// its own process's and reach it without Redis; only the dispatcher's finds, whose
	// time is no finer, go by way of it, and each look costs this process both sides.
	EmbeddedCheckInterval = dispatchEvery
)

// Config is what a worker is made of.
type Config struct {
	Store    *storage.Store
	Source   Source
	Notifier Notifier
	Redis    redis.UniversalClient
	Waker    *Waker

	Poll         PollPolicy
	Budget       storage.Budget // of one credential, or of several that share a token or an email
	EgressBudget storage.Budget // of this process, all credentials together

	Retry        RetrySchedule
	Timeout      time.Duration // of one attempt, the answer's body included
	DisableAfter time.Duration // of nothing but failures

	// ConsoleURL is where links in Slack messages point; "" makes none.
	ConsoleURL string
	// CheckInterval is how often an idle worker looks at its queue in Redis; 0 is
	// the default. Work of this process does not wait for it, but Stop does.
	CheckInterval time.Duration
	Logger        *slog.Logger
	Metrics       prometheus.Registerer // nil for none
	Tracer        trace.Tracer          // nil for none

	deliverShifts int           // 0 is the default; tests need few
	failingPause  time.Duration // 0 is the default; for tests
}

// shifts are how many slots there are for each kind of group.
func (cfg Config) shifts() map[storage.GroupKind]int {
	return map[storage.GroupKind]int{
		storage.PollGroup: pollShifts, storage.DeliverGroup: cmp.Or(cfg.deliverShifts, deliverShifts),
	}
}

// Worker polls and delivers until it is stopped.
type Worker struct {
	store     *storage.Store
	waker     *Waker
	log       *slog.Logger
	now       func() time.Time // steady, as all that is called now here
	owner     string
	crew      *crew
	poller    *poller
	deliverer *deliverer
	servers   []*asynq.Server
	away      *outage

	cancelWork context.CancelFunc // cuts off what is in flight
	stopTick   context.CancelFunc
	ticking    sync.WaitGroup
}

// turn is one stay at a group: from getting its lease to giving it back.
type turn struct {
	group  storage.Group
	owner  string
	woken  <-chan struct{}
	leased *atomic.Bool // false once the lease is lost
	linger func() time.Duration
	// crowded says whether others may be waiting for the slot; stepAside gives it back
	// before the turn ends, if there is room for one in such trouble.
	crowded   func() bool
	stepAside func(why trouble) bool
}

// StartWorker starts working. It needs neither Redis nor the database to answer
// yet.
func StartWorker(cfg Config) (*Worker, error) {
	w := newWorker(cfg)
	for kind, n := range cfg.shifts() {
		server := asynq.NewServerFromRedisClient(cfg.Redis, serverConfig(cfg, kind, n))
		if err := server.Start(handleTask(w.crew, kind)); err != nil {
			return nil, fmt.Errorf("start the %s worker: %w", kind, err)
		}
		w.servers = append(w.servers, server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stopTick = cancel
	d := &dispatcher{store: cfg.Store, waker: cfg.Waker, crew: w.crew, now: cfg.Store.Steady, away: w.away, log: cfg.Logger}
	w.ticking.Go(func() { d.run(ctx) })
	w.ticking.Go(func() { w.poller.secrets.forget(ctx) })
	w.ticking.Go(func() { w.crew.hearNudges(ctx, cfg.Redis) })
	return w, nil
}

// serverConfig is what asynq's server for a kind of group is made from.
func serverConfig(cfg Config, kind storage.GroupKind, concurrency int) asynq.Config {
	return asynq.Config{
		Concurrency:       concurrency,
		Queues:            queuesIn(cfg.Redis).weights(kind),
		TaskCheckInterval: cmp.Or(cfg.CheckInterval, CheckInterval),
		ShutdownTimeout:   asynqGrace,
		Logger:            asynqLogger{cfg.Logger},
		LogLevel:          asynq.WarnLevel,
	}
}

func newWorker(cfg Config) *Worker {
	m := newMetrics(cfg.Metrics)
	w := &Worker{
		store: cfg.Store, waker: cfg.Waker, log: cfg.Logger, now: cfg.Store.Steady, owner: rand.Text(),
		away: &outage{log: cfg.Logger, what: "the database", now: cfg.Store.Steady, harmless: leaseTTL / 2},
	}
	work, cancelWork := context.WithCancel(context.Background())
	w.cancelWork = cancelWork
	perSecond := float64(cfg.EgressBudget.N) / cfg.EgressBudget.Per.Seconds()
	w.poller = &poller{
		store: cfg.Store, source: cfg.Source, policy: cfg.Poll, budget: cfg.Budget,
		egress:  rate.NewLimiter(rate.Limit(perSecond), 1),
		secrets: newCache[storage.CredentialSecret](credentialTTL),
		now:     cfg.Store.Steady, log: cfg.Logger, metrics: m, traces: tracing{cfg.Tracer},
	}
	w.poller.joint, w.poller.few = newJoint(pollWriters, w.poller.write), newJoint(1, w.poller.write)
	w.deliverer = &deliverer{
		store: cfg.Store, notifier: cfg.Notifier, schedule: cfg.Retry, timeout: cfg.Timeout,
		disableAfter: cfg.DisableAfter, failingPause: cmp.Or(cfg.failingPause, failingPause),
		links: links(cfg.ConsoleURL), now: cfg.Store.Steady, log: cfg.Logger, metrics: m,
		traces: tracing{cfg.Tracer}, throng: throng{most: throngMost},
	}
	w.deliverer.joint = newJoint(attemptWriters, w.deliverer.writeAttempts)
	w.crew = newCrew(cfg.shifts(),
		func(stop context.Context, g storage.Group, woken <-chan struct{}) { w.shift(stop, work, g, woken) })
	return w
}

// Wake works through groups that a commit of this process has made due: here and
// at once, or by way of Redis if this process is busy. It never blocks.
func (w *Worker) Wake(groups []storage.Group) {
	for i, g := range groups {
		if !w.crew.wake(g) {
			w.waker.Wake(groups[i : i+1])
		}
	}
}

// Stop takes no new work and waits for what is in flight, until ctx ends: then
// it is cut off, and found again by another worker when its lease has run out.
func (w *Worker) Stop(ctx context.Context) error {
	w.crew.refuse() // before asynq stops, which may wait for Redis
	w.stopTick()
	w.eachServer((*asynq.Server).Stop)
	err := w.crew.stop(ctx)
	w.cancelWork()
	cutOff, done := context.WithTimeout(context.WithoutCancel(ctx), cutOffGrace)
	defer done()
	_ = w.crew.stop(cutOff) // once more, for err says already what matters
	w.eachServer((*asynq.Server).Shutdown)
	w.ticking.Wait()
	return err
}

// eachServer does so with all servers at once: each waits for Redis, which may
// take its time.
func (w *Worker) eachServer(do func(*asynq.Server)) {
	var all sync.WaitGroup
	for _, s := range w.servers {
		all.Go(func() { do(s) })
	}
	all.Wait()
}

// shift works through one group until nothing in it is due. It takes no new work
// when stop ends; work bounds what is in flight.
func (w *Worker) shift(stop, work context.Context, g storage.Group, woken <-chan struct{}) {
	for range shiftRounds {
		next, err := w.visit(stop, work, g, woken)
		switch {
		case err != nil:
			if work.Err() == nil {
				w.report(g, err)
			}
			return
		case next.IsZero() || stop.Err() != nil:
			return
		}
		if pause := next.Sub(w.now()); pause > 0 {
			if pause < soon {
				time.AfterFunc(pause, func() { w.crew.wake(g) })
			}
			return
		}
		if w.crew.crowded(g) {
			return // whoever has waited longest is next
		}
	}
}

// visit takes the group's lease, does what is due, and gives the lease back. It
// returns when the group is due next, zero if never or if another worker has it.
func (w *Worker) visit(stop, work context.Context, g storage.Group, woken <-chan struct{}) (time.Time, error) {
	if !w.away.over(afterOutage) {
		return time.Time{}, nil
	}
	ok, err := w.store.LeaseGroup(work, g, w.owner, leaseTTL)
	if errors.Is(err, storage.ErrOutcomeUnknown) {
		_, releaseErr := w.release(work, g, time.Time{})
		return time.Time{}, errors.Join(err, releaseErr)
	}
	if err == nil && !ok && w.waker.Up() { // the lease is another's
		w.waker.nudge(work, g)
	}
	if err != nil || !ok {
		return time.Time{}, err
	}
	t := turn{
		group: g, owner: w.owner, woken: woken, leased: new(atomic.Bool), linger: w.lingers(g.Kind),
		crowded:   func() bool { return w.crew.crowded(g) },
		stepAside: func(why trouble) bool { return w.crew.stepAside(g, why) },
	}
	t.leased.Store(true)
	keep, done := context.WithCancel(work)
	var keeping sync.WaitGroup
	keeping.Go(func() {
		keepLease(keep, func(ctx context.Context) (bool, error) {
			return w.store.RenewLease(ctx, g, w.owner, leaseTTL)
		}, t.leased)
	})
	var notBefore time.Time
	if g.Kind == storage.PollGroup {
		notBefore, err = w.poller.work(stop, work, t)
	} else {
		notBefore, err = w.deliverer.work(stop, work, t)
	}
	done()
	keeping.Wait()
	if errors.Is(err, storage.ErrLeaseLost) || !t.leased.Load() {
		w.poller.metrics.leaseLost(g.Kind)
		return time.Time{}, nil
	}
	if pause := w.now().Add(errorPause); err != nil && !storage.Unavailable(err) && pause.After(notBefore) {
		notBefore = pause
	}
	next, releaseErr := w.release(work, g, notBefore)
	return next, errors.Join(err, releaseErr)
}

// lingers is how long a shift stays with nothing to do, in case that more comes: a
// trickle then costs no lease for each, and is heard of at once.
func (w *Worker) lingers(kind storage.GroupKind) func() time.Duration {
	return func() time.Duration {
		if w.crew.roomy(kind) {
			return linger
		}
		return 0
	}
}

// release gives the group's lease back, as soon as the database takes it: a lease
// that is not given back keeps everybody from the group until it has run out.
func (w *Worker) release(work context.Context, g storage.Group, notBefore time.Time) (next time.Time, err error) {
	for end := time.Now().Add(leaseTTL); ; {
		next, err = w.store.ReleaseGroup(work, g, w.owner, notBefore)
		switch {
		case errors.Is(err, storage.ErrLeaseLost):
			return time.Time{}, nil
		case err == nil, !storage.Unavailable(err), time.Now().After(end), !wait(work, recordPauseMax):
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

// asynqLogger keeps asynq's own account of an outage at debug: the waker has
// logged the outage once already.
type asynqLogger struct{ log *slog.Logger }

func (l asynqLogger) Debug(args ...any) { l.log.Debug(fmt.Sprint(args...), "from", "asynq") }
func (l asynqLogger) Info(args ...any)  { l.Debug(args...) }
func (l asynqLogger) Warn(args ...any)  { l.Debug(args...) }
func (l asynqLogger) Error(args ...any) { l.Debug(args...) }
func (l asynqLogger) Fatal(args ...any) { l.log.Error(fmt.Sprint(args...), "from", "asynq") }
