package poll

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"oprelay/jobs/source"
)

// metrics are what the polls of one process count.
type metrics struct {
	polls     *prometheus.CounterVec // by source and outcome
	time, lag prometheus.Histogram
}

// newMetrics registers them; with no r they are counted and not shown.
func newMetrics(r prometheus.Registerer, sources []*source.Source) *metrics {
	auto := promauto.With(r)
	m := &metrics{
		polls: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_polls_total", Help: "Polls of upstreams, by source and outcome.",
		}, []string{"source", "outcome"}),
		time: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "relay_poll_duration_seconds", Help: "Time from a poll's request to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		lag: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "relay_poll_lag_seconds", Help: "Time from when a poll was due until its request was sent.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 600},
		}),
	}
	for _, of := range sources {
		for _, outcome := range source.Verdicts() {
			m.polls.WithLabelValues(of.Name, string(outcome)) // there from the start: what appears at 1 has no rate
		}
	}
	return m
}

func (m *metrics) polled(of *source.Source, outcome source.Verdict, took time.Duration) {
	m.polls.WithLabelValues(of.Name, string(outcome)).Inc()
	m.time.Observe(took.Seconds())
}
