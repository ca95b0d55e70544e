package jobs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"oprelay/jobs/cloudflare"
	"oprelay/notifier"
	"oprelay/storage"
)

// metrics are what the workers of one process count.
type metrics struct {
	polls      series[prometheus.Counter] // by outcome
	pollTime   prometheus.Histogram
	pollLag    prometheus.Histogram
	sends      series[sendMetrics]         // by the destination's kind
	batch      series[prometheus.Observer] // by the group's kind
	leasesLost series[prometheus.Counter]  // by the group's kind
}

// sendMetrics are about the destinations of one kind.
type sendMetrics struct {
	attempts               series[prometheus.Counter] // by outcome
	time                   prometheus.Observer
	firstDelay, laterDelay prometheus.Observer
}

// accepted is the outcome of an attempt that did not fail.
const accepted = "accepted"

// newMetrics registers them; with no r they are counted and not shown.
func newMetrics(r prometheus.Registerer) *metrics {
	auto := promauto.With(r)
	polls := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "relay_polls_total", Help: "Polls of the upstream, by outcome.",
	}, []string{"outcome"})
	batch := auto.NewHistogramVec(prometheus.HistogramOpts{
		Name: "relay_recorded_batch_rows", Help: "Results that one commit recorded, by kind.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 11),
	}, []string{"kind"})
	leasesLost := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "relay_leases_lost_total", Help: "Leases that ran out or were taken over while this process worked, by kind.",
	}, []string{"kind"})
	kinds := []string{string(storage.PollGroup), string(storage.DeliverGroup)}
	return &metrics{
		polls: newSeries(polls.WithLabelValues, string(cloudflare.InProgress), string(cloudflare.Terminal),
			string(cloudflare.Inconclusive), string(cloudflare.Refused), string(cloudflare.NotFound), string(cloudflare.RateLimited)),
		pollTime: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "relay_poll_duration_seconds", Help: "Time from a poll's request to the end of its answer.",
			Buckets: requestBuckets(),
		}),
		pollLag: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "relay_poll_lag_seconds", Help: "Time from when a poll was due until its request was sent.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 600},
		}),
		sends:      newSendMetrics(auto),
		batch:      newSeries(batch.WithLabelValues, kinds...),
		leasesLost: newSeries(leasesLost.WithLabelValues, kinds...),
	}
}

func newSendMetrics(auto promauto.Factory) series[sendMetrics] {
	attempts := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "relay_delivery_attempts_total", Help: "Attempts to deliver, by the destination's kind and outcome.",
	}, []string{"kind", "outcome"})
	duration := auto.NewHistogramVec(prometheus.HistogramOpts{
		Name: "relay_delivery_attempt_duration_seconds", Help: "Time of one attempt, the answer's body included.",
		Buckets: requestBuckets(),
	}, []string{"kind"})
	delay := auto.NewHistogramVec(prometheus.HistogramOpts{
		Name: "relay_delivery_delay_seconds",
		Help: "Time from the making of an event until a destination accepted it, at the first attempt or at a later one.",
		Buckets: []float64{
			.001, .005, .015, .05, .25, 1, 5, 30,
			5 * time.Minute.Seconds(), time.Hour.Seconds(), 6 * time.Hour.Seconds(), 24 * time.Hour.Seconds(),
		},
	}, []string{"kind", "attempt"})
	return newSeries(func(kind ...string) sendMetrics {
		outcome := func(outcome ...string) prometheus.Counter { return attempts.WithLabelValues(kind[0], outcome[0]) }
		return sendMetrics{
			attempts: newSeries(outcome, accepted, notifier.Passing.String(), notifier.Rejected.String(),
				notifier.Gone.String(), notifier.RateLimited.String()),
			time:       duration.WithLabelValues(kind...),
			firstDelay: delay.WithLabelValues(kind[0], "first"),
			laterDelay: delay.WithLabelValues(kind[0], "retry"),
		}
	}, storage.KindWebhook, storage.KindSlack)
}

// requestBuckets are for requests, from 1 ms to beyond the longest that they may
// take by default.
func requestBuckets() []float64 { return prometheus.ExponentialBuckets(0.001, 2, 16) }

// sending is told how late a poll is sent.
func (m *metrics) sending(late time.Duration) { m.pollLag.Observe(max(late, 0).Seconds()) }

func (m *metrics) polled(outcome cloudflare.Outcome, took time.Duration) {
	m.polls.of(string(outcome)).Inc()
	m.pollTime.Observe(took.Seconds())
}

// attempted counts an attempt that has just ended. Machines whose clocks differ see
// another delay; less than none counts as none.
func (m *metrics) attempted(e errand, err error, took time.Duration) {
	sends, outcome := m.sends.of(e.to.Kind), accepted
	if err != nil {
		outcome = explain(err).Kind.String()
	}
	sends.attempts.of(outcome).Inc()
	sends.time.Observe(took.Seconds())
	if err != nil || e.delivery == nil {
		return
	}
	delay := max(time.Since(e.delivery.CreatedAt), 0).Seconds()
	if e.delivery.AttemptsMade == 0 {
		sends.firstDelay.Observe(delay)
	} else {
		sends.laterDelay.Observe(delay)
	}
}

func (m *metrics) recorded(kind storage.GroupKind, rows int) {
	m.batch.of(string(kind)).Observe(float64(rows))
}

func (m *metrics) leaseLost(kind storage.GroupKind) { m.leasesLost.of(string(kind)).Inc() }

// series are a vector's by the values of a label. Those that are known are looked
// up once, and are there from the start: what appears at 1 has no rate.
type series[M any] struct {
	known map[string]M
	with  func(values ...string) M
}

func newSeries[M any](with func(values ...string) M, values ...string) series[M] {
	known := make(map[string]M, len(values))
	for _, value := range values {
		known[value] = with(value)
	}
	return series[M]{known, with}
}

// of is the series of a value.
func (s series[M]) of(value string) M {
	if m, ok := s.known[value]; ok {
		return m
	}
	return s.with(value)
}
