package jobs

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"oprelay/storage"
)

// tasksFor is how long an answer of Redis is shown to whoever scrapes, so that more
// scrapers ask it no more often.
const tasksFor = time.Second

// redisMetrics tell whether Redis answers, and how many tasks it holds.
type redisMetrics struct {
	waker *Waker

	mu    sync.Mutex
	asked time.Time
	tasks map[storage.GroupKind]int64 // nil if Redis did not answer
}

// Metrics tells of Redis as this process sees it, with workers or without.
func (w *Waker) Metrics() prometheus.Collector { return &redisMetrics{waker: w} }

// Describe implements prometheus.Collector.
func (*redisMetrics) Describe(c chan<- *prometheus.Desc) {
	c <- redisUpDesc()
	c <- tasksDesc()
}

func redisUpDesc() *prometheus.Desc {
	return prometheus.NewDesc("relay_redis_up", "1 while Redis answers, else 0: work goes on, found in the database.", nil, nil)
}

func tasksDesc() *prometheus.Desc {
	return prometheus.NewDesc("relay_queue_tasks",
		"Wake-ups that Redis holds, waiting or being worked on, by kind; the work itself is in the database.", []string{"kind"}, nil)
}

// Collect implements prometheus.Collector. While Redis is away nothing is said of
// what it holds, and the scrape does not fail, nor wait for long.
func (m *redisMetrics) Collect(c chan<- prometheus.Metric) {
	up := 0.0
	if m.waker.Up() {
		up = 1
	}
	c <- prometheus.MustNewConstMetric(redisUpDesc(), prometheus.GaugeValue, up)
	for kind, n := range m.ask() {
		c <- prometheus.MustNewConstMetric(tasksDesc(), prometheus.GaugeValue, float64(n), string(kind))
	}
}

func (m *redisMetrics) ask() map[storage.GroupKind]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.waker.Up() {
		return nil
	}
	if m.asked.IsZero() || time.Since(m.asked) >= tasksFor {
		m.tasks = m.waker.countTasks(context.Background())
		m.asked = time.Now()
	}
	return m.tasks
}

// countTasks is how many tasks Redis holds, nil if it does not answer. asynq's
// inspector would not do: after a loss of data it knows no queue until a task is
// enqueued, and it has Redis measure memory. These are the keys in which asynq
// 0.26 keeps a queue's tasks.
func (w *Waker) countTasks(ctx context.Context) map[storage.GroupKind]int64 {
	ctx, cancel := context.WithTimeout(ctx, redisPatient)
	defer cancel()
	counts := map[storage.GroupKind][]*redis.IntCmd{}
	if _, err := w.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, kind := range []storage.GroupKind{storage.PollGroup, storage.DeliverGroup} {
			for _, name := range w.queues.names(kind) {
				counts[kind] = append(counts[kind], p.LLen(ctx, "asynq:{"+name+"}:pending"), p.LLen(ctx, "asynq:{"+name+"}:active"))
			}
		}
		return nil
	}); err != nil {
		return nil
	}
	tasks := make(map[storage.GroupKind]int64, len(counts))
	for kind, lengths := range counts {
		for _, length := range lengths {
			tasks[kind] += length.Val()
		}
	}
	return tasks
}
