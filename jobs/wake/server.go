package wake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

const (
	// checkInterval is how often an idle worker looks at its queue. Workers are told of each
	// wake-up, so only one of which none has heard waits for that; and Servers.Stop does.
	checkInterval = 500 * time.Millisecond
	// shutdownTimeout is short because the runs have ended already when asynq is told to stop.
	shutdownTimeout = time.Second
)

// ServerConfig is what servers are made of.
type ServerConfig struct {
	// Concurrency is how many wake-ups are handled at a time, by the group's kind.
	Concurrency map[string]int
	// Handle works on a group that was woken; ctx ends after a minute.
	Handle func(ctx context.Context, g Group)
}

// Servers take wake-ups from Redis, each those of one kind of group.
type Servers []*asynq.Server

// Serve starts them. Redis need not answer yet.
func (w *Waker) Serve(cfg ServerConfig) (Servers, error) {
	var all Servers
	for kind := range cfg.Concurrency {
		server := asynq.NewServerFromRedisClient(w.redis, w.serverConfig(cfg, kind))
		if err := server.Start(handleTask(kind, cfg.Handle)); err != nil {
			return nil, fmt.Errorf("start the %s worker: %w", kind, err)
		}
		all = append(all, server)
	}
	return all, nil
}

func (w *Waker) serverConfig(cfg ServerConfig, kind string) asynq.Config {
	return asynq.Config{
		Concurrency:       cfg.Concurrency[kind],
		Queues:            w.queues.weights(kind),
		TaskCheckInterval: checkInterval,
		ShutdownTimeout:   shutdownTimeout,
		Logger:            asynqLogger{w.log},
		LogLevel:          asynq.WarnLevel,
	}
}

// Stop takes no more wake-ups.
func (s Servers) Stop() { s.each((*asynq.Server).Stop) }

// Shutdown ends what is left.
func (s Servers) Shutdown() { s.each((*asynq.Server).Shutdown) }

// each does so with all servers at once: each waits for Redis, which may take its time.
func (s Servers) each(do func(*asynq.Server)) {
	var all sync.WaitGroup
	for _, server := range s {
		all.Go(func() { do(server) })
	}
	all.Wait()
}

// asynqLogger keeps asynq's own account of an outage at debug: the waker has
// logged the outage once already.
type asynqLogger struct{ log *slog.Logger }

func (l asynqLogger) Debug(args ...any) { l.log.Debug(fmt.Sprint(args...), "from", "asynq") }
func (l asynqLogger) Info(args ...any)  { l.Debug(args...) }
func (l asynqLogger) Warn(args ...any)  { l.Debug(args...) }
func (l asynqLogger) Error(args ...any) { l.Debug(args...) }
func (l asynqLogger) Fatal(args ...any) { l.log.Error(fmt.Sprint(args...), "from", "asynq") }

// A task's type is named after the group's kind.
const taskPrefix = "relay:"

// taskBucket is how long a task's id stays the same: a second wake-up of a group
// within it is dropped while the first is there. It is short because asynq keeps the id
// of a task whose worker was killed for a minute or two.
const taskBucket = 5 * time.Second

// taskTimeout is when asynq gives up on a handler. A run that lasts longer goes
// on by itself: the task only had to start it.
const taskTimeout = time.Minute

type taskPayload struct {
	Group string `json:"group"`
}

// newTask makes the wake-up of a group, for a queue.
func newTask(g Group, queue string, now time.Time) (*asynq.Task, error) {
	payload, err := json.Marshal(taskPayload{g.ID})
	if err != nil {
		return nil, fmt.Errorf("encode a task: %w", err)
	}
	id := fmt.Sprintf("%s:%s:%d", g.Kind, g.ID, now.UnixNano()/int64(taskBucket))
	return asynq.NewTask(taskPrefix+g.Kind, payload,
		asynq.TaskID(id), asynq.Queue(queue), asynq.Timeout(taskTimeout)), nil
}

// handleTask has the task's group worked on. It never fails, for asynq's retries would be
// a second schedule: what is still due afterwards is found in the database.
func handleTask(kind string, handle func(context.Context, Group)) asynq.HandlerFunc {
	return func(ctx context.Context, t *asynq.Task) error {
		var p taskPayload
		if err := json.Unmarshal(t.Payload(), &p); err != nil || p.Group == "" {
			return nil //nolint:nilerr // not ours, or older than this version: the row is the truth
		}
		handle(ctx, Group{Kind: kind, ID: p.Group})
		return nil
	}
}

// enqueue puts a wake-up into Redis, unless one is there already.
func enqueue(ctx context.Context, client *asynq.Client, wakeUp *asynq.Task) error {
	_, err := client.EnqueueContext(ctx, wakeUp)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return nil
	}
	return err
}
