package jobs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oprelay/jobs/cloudflare"
	"oprelay/storage"
)

// metrics are what the workers of one process count.
type metrics struct {
	polls       *prometheus.CounterVec
	pollTime    prometheus.Histogram
	attempts    *prometheus.CounterVec
	attemptTime *prometheus.HistogramVec
	batch       *prometheus.HistogramVec
	leasesLost  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, waker *Waker) *metrics {
	m := &metrics{
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_polls_total", Help: "Polls of the upstream, by outcome.",
		}, []string{"outcome"}),
		pollTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "relay_poll_duration_seconds", Help: "Time from a poll's request to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_delivery_attempts_total", Help: "Attempts to deliver, by the destination's kind and outcome.",
		}, []string{"kind", "outcome"}),
		attemptTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "relay_delivery_attempt_duration_seconds", Help: "Time of one attempt, the answer's body included.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}, []string{"kind"}),
		batch: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "relay_recorded_batch_rows", Help: "Results that one commit recorded, by kind.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}, []string{"kind"}),
		leasesLost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_leases_lost_total", Help: "Leases that ran out or were taken over while this process worked, by kind.",
		}, []string{"kind"}),
	}
	redisUp := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_redis_up", Help: "1 while Redis answers, else 0: work goes on, found in the database.",
	}, func() float64 {
		if waker.Up() {
			return 1
		}
		return 0
	})
	if r != nil {
		r.MustRegister(m.polls, m.pollTime, m.attempts, m.attemptTime, m.batch, m.leasesLost, redisUp)
	}
	return m
}

func (m *metrics) polled(outcome cloudflare.Outcome, took time.Duration) {
	m.polls.WithLabelValues(string(outcome)).Inc()
	m.pollTime.Observe(took.Seconds())
}

func (m *metrics) attempted(kind string, err error, took time.Duration) {
	outcome := "accepted"
	if err != nil {
		outcome = explain(err).Kind.String()
	}
	m.attempts.WithLabelValues(kind, outcome).Inc()
	m.attemptTime.WithLabelValues(kind).Observe(took.Seconds())
}

func (m *metrics) recorded(kind storage.GroupKind, rows int) {
	m.batch.WithLabelValues(string(kind)).Observe(float64(rows))
}

func (m *metrics) leaseLost(kind storage.GroupKind) {
	m.leasesLost.WithLabelValues(string(kind)).Inc()
}
