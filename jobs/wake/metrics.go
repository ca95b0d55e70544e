package wake

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// redisMetrics tell whether Redis answers, and how many tasks it holds.
type redisMetrics struct{ waker *Waker }

// Metrics tells of Redis as this process sees it, with workers or without.
func (w *Waker) Metrics() prometheus.Collector { return redisMetrics{w} }

// Describe implements prometheus.Collector.
func (redisMetrics) Describe(c chan<- *prometheus.Desc) {
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
func (m redisMetrics) Collect(c chan<- prometheus.Metric) {
	up := 0.0
	var tasks map[string]int64
	if m.waker.Up() {
		up, tasks = 1, m.waker.countTasks(context.Background())
	}
	c <- prometheus.MustNewConstMetric(redisUpDesc(), prometheus.GaugeValue, up)
	for kind, n := range tasks {
		c <- prometheus.MustNewConstMetric(tasksDesc(), prometheus.GaugeValue, float64(n), kind)
	}
}

// countTasks is how many tasks Redis holds, nil if it does not answer. asynq's
// inspector would not do: after a loss of data it knows no queue until a task is
// enqueued, and it has Redis measure memory. These are the keys in which asynq
// 0.26 keeps a queue's tasks.
func (w *Waker) countTasks(ctx context.Context) map[string]int64 {
	ctx, cancel := context.WithTimeout(ctx, redisPatient)
	defer cancel()
	counts := map[string][]*redis.IntCmd{}
	if _, err := w.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, kind := range w.kinds {
			for _, name := range w.queues.names(kind) {
				counts[kind] = append(counts[kind], p.LLen(ctx, "asynq:{"+name+"}:pending"), p.LLen(ctx, "asynq:{"+name+"}:active"))
			}
		}
		return nil
	}); err != nil {
		return nil
	}
	tasks := make(map[string]int64, len(counts))
	for kind, lengths := range counts {
		for _, length := range lengths {
			tasks[kind] += length.Val()
		}
	}
	return tasks
}
