package jobs

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"oprelay/storage"
)

const (
	// wakeQueue is how many wake-ups may wait for Redis. What does not fit is
	// dropped and found by a dispatcher.
	wakeQueue    = 4096
	redisCheck   = time.Second
	redisPatient = time.Second // longest a wake-up may take before Redis counts as away
)

// Waker puts wake-ups for groups into Redis and knows whether Redis answers. A
// process without workers needs nothing else of this package.
type Waker struct {
	redis  redis.UniversalClient
	queues queues
	client atomic.Pointer[asynq.Client]
	log    *slog.Logger
	now    func() time.Time
	queue  chan storage.Group
	up     atomic.Bool
	outage outage
	epochs map[string]string // last seen, by key
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// StartWaker starts sending. The Redis client stays the caller's, to be closed
// after Stop.
func StartWaker(client redis.UniversalClient, log *slog.Logger, now func() time.Time) *Waker {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Waker{
		redis: client, queues: queuesIn(client), log: log, now: now, cancel: cancel, epochs: map[string]string{},
		queue:  make(chan storage.Group, wakeQueue),
		outage: outage{log: log, what: "Redis", now: now},
	}
	w.client.Store(asynq.NewClientFromRedisClient(client))
	w.up.Store(true)
	w.done.Go(func() { w.send(ctx) })
	w.done.Go(func() { w.watchRedis(ctx) })
	return w
}

// Stop ends it; wake-ups not sent yet are found by a dispatcher.
func (w *Waker) Stop() {
	w.cancel()
	w.done.Wait()
}

// Wake has some worker work through the groups soon. It never blocks.
func (w *Waker) Wake(groups []storage.Group) {
	for _, g := range groups {
		select {
		case w.queue <- g:
		default:
			return
		}
	}
}

// Up says whether Redis answered last time.
func (w *Waker) Up() bool { return w.up.Load() }

func (w *Waker) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case g := <-w.queue:
			if w.Up() {
				w.enqueue(ctx, g)
			}
		}
	}
}

// enqueue is true if the wake-up is in Redis. One that is there already may have
// been taken by a worker that has since looked at what is due: it is told to look again.
func (w *Waker) enqueue(ctx context.Context, g storage.Group) bool {
	callCtx, cancel := context.WithTimeout(ctx, redisPatient)
	defer cancel()
	task, err := newTask(g, w.queues.of(g), w.now())
	if err == nil {
		var first bool
		if first, err = enqueue(callCtx, w.client.Load(), task); err == nil && !first {
			w.nudge(callCtx, g)
		}
	}
	if err != nil && ctx.Err() == nil {
		w.failed(err)
	}
	return err == nil
}

func (w *Waker) failed(err error) {
	w.up.Store(false)
	w.outage.failed(err)
}

// watchRedis notices that Redis went away, came back, or lost its data.
func (w *Waker) watchRedis(ctx context.Context) {
	for {
		if err := w.check(ctx); err == nil {
			w.up.Store(true)
			w.outage.worked()
		} else if ctx.Err() == nil {
			w.failed(err)
		}
		if !wait(ctx, redisCheck) {
			return
		}
	}
}

// check reads the epoch keys, after making a new one where there is none: by a
// write each time, for a Redis that is out of memory or a read-only replica still
// answers reads. An asynq client registers its queues once, so after a loss of
// data it is renewed.
func (w *Waker) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisPatient)
	defer cancel()
	var lost bool
	var err error
	for _, key := range w.queues.epochs() {
		var epoch string
		if epoch, err = w.epoch(ctx, key); err != nil {
			break
		}
		lost = lost || w.epochs[key] != "" && w.epochs[key] != epoch
		w.epochs[key] = epoch
	}
	if lost {
		w.log.Warn("Redis has lost its data; nothing else is lost: what is due is in the database and is enqueued anew")
		w.client.Store(asynq.NewClientFromRedisClient(w.redis))
	}
	return err
}

// epoch is what the key says, after giving it something to say.
func (w *Waker) epoch(ctx context.Context, key string) (string, error) {
	if err := w.redis.SetNX(ctx, key, rand.Text(), 0).Err(); err != nil {
		return "", err
	}
	return w.redis.Get(ctx, key).Result()
}
