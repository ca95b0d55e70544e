package main

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oprelay/storage"
)

// How long an answer of the database is shown to whoever scrapes, so that more
// scrapers ask it no more often. A census of 10,000 budgets and as many
// destinations costs some 40 ms of a core.
const (
	overdueFor = time.Second
	censusFor  = 10 * time.Second
)

// storeMetrics tell what the database knows of all processes, whether it answers,
// and what this process has written to it; deploy/README.md says which to alert on.
type storeMetrics struct {
	store  *storage.Store
	budget storage.Budget // what one allows; zero where nobody polls
	descs  storeDescs

	mu      sync.Mutex
	asked   time.Time
	overdue map[storage.GroupKind]time.Duration
	counted time.Time
	census  storage.Census
	err     error // of what was asked last
}

type storeDescs struct{ up, overdue, budgets, left, destinations, registered, ended *prometheus.Desc }

func newStoreMetrics(store *storage.Store, budget storage.Budget) *storeMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &storeMetrics{store: store, budget: budget, descs: storeDescs{
		up:           desc("relay_database_up", "1 if the database answered the scrape, else 0."),
		overdue:      desc("relay_oldest_overdue_seconds", "How long the most overdue work has been waiting; 0 if nothing is overdue.", "kind"),
		budgets:      desc("relay_budgets", "Budgets that allow no poll now: locked out by the upstream, or spent.", "state"),
		left:         desc("relay_budget_left_ratio", "How much of each budget in use is left now, from 0 to 1; told by who polls."),
		destinations: desc("relay_destinations", "Destinations; failing is what is enabled and has accepted nothing since a failure.", "state"),
		registered:   desc("relay_watches_registered_total", "Watches that this process registered."),
		ended:        desc("relay_watches_ended_total", "Watches that this process ended, by what they became.", "status"),
	}}
}

// Describe implements prometheus.Collector.
func (m *storeMetrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.descs.up, m.descs.overdue, m.descs.budgets, m.descs.left, m.descs.destinations, m.descs.registered, m.descs.ended,
	} {
		c <- d
	}
}

// Collect implements prometheus.Collector. While the database is away nothing is
// said of what only it knows, and the scrape does not fail.
func (m *storeMetrics) Collect(c chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	tally := m.store.Tally()
	counter(m.descs.registered, tally.Registered)
	for status, n := range tally.Ended {
		counter(m.descs.ended, n, status)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ask()
	if m.err != nil {
		gauge(m.descs.up, 0)
		return
	}
	gauge(m.descs.up, 1)
	for _, kind := range []storage.GroupKind{storage.PollGroup, storage.DeliverGroup} {
		gauge(m.descs.overdue, m.overdue[kind].Seconds(), string(kind))
	}
	for state, n := range m.census.Budgets {
		gauge(m.descs.budgets, float64(n), state)
	}
	for state, n := range m.census.Destinations {
		gauge(m.descs.destinations, float64(n), state)
	}
	if m.budget.N > 0 {
		c <- shares(m.descs.left, m.census.BudgetsLeft)
	}
}

// shares shows how many of them there are of each size.
func shares(d *prometheus.Desc, all []float64) prometheus.Metric {
	buckets, sum := map[float64]uint64{0: 0, 0.1: 0, 0.25: 0, 0.5: 0, 0.75: 0, 1: 0}, 0.0
	for _, share := range all {
		sum += share
		for most := range buckets {
			if share <= most {
				buckets[most]++
			}
		}
	}
	return prometheus.MustNewConstHistogram(d, uint64(len(all)), sum, buckets)
}

// ask is patient for readyTimeout with all questions together.
func (m *storeMetrics) ask() {
	if !m.asked.IsZero() && time.Since(m.asked) < overdueFor {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	m.overdue, m.err = m.store.Overdue(ctx)
	if m.err == nil && (m.counted.IsZero() || time.Since(m.counted) >= censusFor) {
		if m.census, m.err = m.store.Census(ctx, m.budget); m.err == nil {
			m.counted = time.Now()
		}
	}
	m.asked = time.Now()
}

// buildInfo is always 1; its labels say what runs.
func buildInfo() prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "relay_build_info", Help: "Always 1; which build of the relay runs.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit},
	})
	info.Set(1)
	return info
}
