// Package wake sends wake-ups for groups of due work through Redis, with asynq, so that the work
// spreads over the processes. A wake-up names a group and promises nothing: what is
// due is in the database, so a wake-up may be lost, doubled, late or stale.
package wake

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

const (
	// wakeQueue is how many wake-ups may wait for Redis. What does not fit is
	// dropped and found by a dispatcher.
	wakeQueue    = 4096
	redisCheck   = time.Second
	redisPatient = time.Second // longest a wake-up may take before Redis counts as away
)

// Group names what is to be worked on.
type Group struct{ Kind, ID string }

// Waker puts wake-ups for groups into Redis and knows whether Redis answers.
type Waker struct {
	redis  redis.UniversalClient
	kinds  []string
	queues queues
	client atomic.Pointer[asynq.Client]
	log    *slog.Logger
	now    func() time.Time
	queue  chan Group
	news   *news
	epochs map[string]string // last seen, by key
	cancel context.CancelFunc
	done   sync.WaitGroup

	up       atomic.Bool
	hinted   atomic.Bool
	mu       sync.Mutex
	answered time.Time // by mu: when Redis last answered
	away     time.Time // by mu: when it last answered before it went away; zero while it answers
}

// Start starts sending wake-ups for groups of these kinds. The Redis client stays the
// caller's, to be closed after Stop.
func Start(client redis.UniversalClient, log *slog.Logger, now func() time.Time, kinds ...string) *Waker {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Waker{
		redis: client, kinds: kinds, queues: queuesIn(client), log: log, now: now, cancel: cancel,
		epochs: map[string]string{}, queue: make(chan Group, wakeQueue), news: newNews(),
	}
	w.client.Store(asynq.NewClientFromRedisClient(client))
	w.up.Store(true)
	w.done.Go(func() { w.send(ctx) })
	w.done.Go(func() { w.watchRedis(ctx) })
	w.done.Go(func() { w.tellNews(ctx) })
	return w
}

// Stop ends it; wake-ups not sent yet are found by a dispatcher.
func (w *Waker) Stop() {
	w.cancel()
	w.done.Wait()
}

// Wake has some worker work on the group soon. It never blocks.
func (w *Waker) Wake(g Group) {
	select {
	case w.queue <- g:
	default:
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
				w.Enqueue(ctx, g)
			}
		}
	}
}

// Enqueue is true if the wake-up is in Redis. The workers are told at once.
func (w *Waker) Enqueue(ctx context.Context, g Group) bool {
	callCtx, cancel := context.WithTimeout(ctx, redisPatient)
	defer cancel()
	task, err := newTask(g, w.queues.of(g), w.now())
	if err == nil {
		if err = enqueue(callCtx, w.client.Load(), task); err == nil {
			w.tellOfWakeUp(callCtx, g)
		}
	}
	if err != nil && ctx.Err() == nil {
		w.failed(err)
	}
	return err == nil
}

// failed and worked log once that Redis went away, and once that it is back.
func (w *Waker) failed(err error) {
	w.up.Store(false)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.away.IsZero() {
		return
	}
	if w.away = w.answered; w.away.IsZero() {
		w.away = w.now()
	}
	w.log.Warn("Redis does not answer; what is due stays in the database and is done when it can be", "error", err)
}

func (w *Waker) worked() {
	w.up.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = w.now()
	if w.away.IsZero() {
		return
	}
	w.log.Info("Redis answers again", "away", w.answered.Sub(w.away).Round(time.Millisecond))
	w.away = time.Time{}
}

// watchRedis notices that Redis went away, came back, or lost its data.
func (w *Waker) watchRedis(ctx context.Context) {
	for {
		if err := w.check(ctx); err == nil {
			w.worked()
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
	for _, key := range w.queues.epochs(w.kinds) {
		var epoch string
		if epoch, err = w.epoch(ctx, key); err != nil {
			break
		}
		lost = lost || w.epochs[key] != "" && w.epochs[key] != epoch
		w.epochs[key] = epoch
	}
	if err == nil {
		err = w.noteHinted(ctx)
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
