package deliver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"oprelay/notifier"
	"oprelay/storage"
)

// metrics are what the attempts of one process count.
type metrics struct {
	attempts *prometheus.CounterVec   // by the destination's kind and outcome
	time     *prometheus.HistogramVec // by the destination's kind
	delay    *prometheus.HistogramVec // by the destination's kind and attempt
}

// accepted is the outcome of an attempt that did not fail.
const accepted = "accepted"

// newMetrics registers them; with no r they are counted and not shown.
func newMetrics(r prometheus.Registerer) *metrics {
	auto := promauto.With(r)
	m := &metrics{
		attempts: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_delivery_attempts_total", Help: "Attempts to deliver, by the destination's kind and outcome.",
		}, []string{"kind", "outcome"}),
		time: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "relay_delivery_attempt_duration_seconds", Help: "Time of one attempt, the answer's body included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}, []string{"kind"}),
		delay: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "relay_delivery_delay_seconds",
			Help: "Time from the making of an event until a destination accepted it, at the first attempt or at a later one.",
			Buckets: []float64{
				.001, .005, .015, .05, .25, 1, 5, 30,
				5 * time.Minute.Seconds(), time.Hour.Seconds(), 6 * time.Hour.Seconds(), 24 * time.Hour.Seconds(),
			},
		}, []string{"kind", "attempt"}),
	}
	m.showAll()
	return m
}

// showAll has all be there from the start: what appears at 1 has no rate.
func (m *metrics) showAll() {
	for _, kind := range []string{storage.KindWebhook, storage.KindSlack} {
		m.attempts.WithLabelValues(kind, accepted)
		for _, outcome := range []notifier.Kind{notifier.Passing, notifier.Rejected, notifier.Gone, notifier.RateLimited, notifier.Own} {
			m.attempts.WithLabelValues(kind, outcome.String())
		}
		m.time.WithLabelValues(kind)
		m.delay.WithLabelValues(kind, "first")
		m.delay.WithLabelValues(kind, "retry")
	}
}

// attempted counts what one request has attempted, once it has ended. Machines whose clocks differ
// see another delay; less than none counts as none.
func (m *metrics) attempted(s send, err error, took time.Duration) {
	kind, outcome := s.to.Kind, accepted
	if err != nil {
		outcome = explain(err).Kind.String()
	}
	m.attempts.WithLabelValues(kind, outcome).Add(float64(len(s.deliveries) + len(s.progress)))
	m.time.WithLabelValues(kind).Observe(took.Seconds())
	if err != nil {
		return
	}
	for _, d := range s.deliveries {
		attempt := "first"
		if d.AttemptsMade > 0 {
			attempt = "retry"
		}
		m.delay.WithLabelValues(kind, attempt).Observe(max(time.Since(d.CreatedAt), 0).Seconds())
	}
}
