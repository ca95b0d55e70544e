package jobs

import (
	"context"
	"testing"
	"time"

	"oprelay/jobs/deliver"
	"oprelay/jobs/poll"
)

// What another process has registered is worked on by whoever hears of it. Nobody looks at the
// queue here, nor for what is due, so nobody else could.
func TestWakeUpOfAnotherProcess(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			config := r.config
			config.Waker = StartWaker(openRedis(t, r.redisURL), r.log, time.Now)
			t.Cleanup(config.Waker.Stop)
			config.Poller, config.Deliverer = poll.New(r.poll), deliver.New(r.deliver)
			w := newWorker(t.Context(), config)
			go w.hear(t.Context())
			t.Cleanup(func() { _ = w.groups.stop(context.Background()) })
			other := StartWaker(openRedis(t, r.redisURL), r.log, time.Now)
			t.Cleanup(other.Stop)
			to := r.webhook(nil)
			r.watch(r.credential("token"), []string{"op"}, to.id)
			eventually(t, func() bool {
				due, err := r.store.DueGroups(t.Context(), 10)
				if err != nil {
					t.Fatal(err)
				}
				WakeBy(other)(due) // again and again: the worker may not listen yet
				return len(to.Arrivals()) == 1
			}, nil, "the webhook")
		})
	}
}

// Whoever is alone needs no tasks to find what is due.
func TestAloneWithoutTasks(t *testing.T) {
	t.Parallel()
	r := newRelay(t, sqliteBackend())
	r.config.Alone = true
	r.start()
	r.wakes = nil // the dispatcher is to find it
	to := r.webhook(nil)
	r.watch(r.credential("token"), []string{"op"}, to.id)
	r.await(to, 1)
	if keys, err := openRedis(t, r.redisURL).Keys(t.Context(), "asynq:*").Result(); err != nil || len(keys) > 0 {
		t.Errorf("in Redis are %q, %v", keys, err)
	}
}
