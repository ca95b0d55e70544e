package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"oprelay/storage"
)

const (
	// readyTimeout bounds how long the question whether the stores answer may take.
	readyTimeout = 3 * time.Second
	// maxScrapes bounds the requests for metrics at once: each asks the database.
	maxScrapes = 4
	// An answer of the database is shown for this long to all that scrape, so that more
	// scrapers ask it no more often. The counts by state of 10,000 budgets and as many
	// destinations cost some 40 ms of a core.
	overdueFor = time.Second
	statesFor  = 10 * time.Second
)

// startMetrics registers what is read from the stores, and serves metrics and
// health on a listener of their own if there is one.
func (p *process) startMetrics(ctx context.Context) error {
	for _, c := range []prometheus.Collector{
		newStoreMetrics(p.store, p.cfg.budgets(), p.cfg.retention), p.waker.Metrics(), pools{p.store, p.redis}, buildInfo(),
	} {
		if err := p.metrics.Register(c); err != nil {
			return err
		}
	}
	if p.cfg.metricsListen == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.metrics, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", p.answerReady)
	address, err := p.listen(ctx, p.cfg.metricsListen, mux, func() {})
	if err != nil {
		return err
	}
	p.log.Info("metrics and health", "listen", address)
	return nil
}

// answerReady says of each part whether it answers. Without Redis work goes on.
func (p *process) answerReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	status, database, redis := http.StatusOK, "ok", "ok"
	if err := p.store.Ready(ctx); err != nil {
		status, database = http.StatusServiceUnavailable, storage.Complaint(err)
	}
	if p.redisReady(ctx) != nil {
		redis = "does not answer: degraded, work goes on without it"
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "database: %s\nredis: %s\n", database, redis)
}

// storeMetrics tells what the database knows of all processes, whether it answers,
// and what this process has written to it; deploy/prometheus says which to alert on.
type storeMetrics struct {
	store   *storage.Store
	budgets storage.Budgets // nil where nobody polls
	keep    time.Duration   // RELAY_RETENTION; 0 where nothing is deleted
	descs   storeDescs

	mu      sync.Mutex
	asked   time.Time
	overdue map[storage.GroupKind]time.Duration
	counted time.Time
	states  storage.StateCounts
	kept    storage.Kept
	err     error // of what was asked last
	up      float64
}

type storeDescs struct {
	up, overdue, budgets, left, destinations, registered, ended, deleted, oldest, behind *prometheus.Desc
}

func newStoreMetrics(store *storage.Store, budgets storage.Budgets, keep time.Duration) *storeMetrics {
	return &storeMetrics{store: store, budgets: budgets, keep: keep, descs: storeDescs{
		up:           desc("relay_database_up", "1 if the database answered the scrape and takes writes, else 0."),
		overdue:      desc("relay_oldest_overdue_seconds", "How long the most overdue work has been waiting; 0 if nothing is overdue.", "kind"),
		budgets:      desc("relay_budgets", "Budgets that allow no poll now: locked out by the upstream, or spent.", "state"),
		left:         desc("relay_budget_left_ratio", "How much of each budget in use is left now, from 0 to 1; told by who polls."),
		destinations: desc("relay_destinations", "Destinations; failing is what is enabled and has accepted nothing since a failure.", "state"),
		registered:   desc("relay_watches_registered_total", "Watches that this process registered."),
		ended:        desc("relay_watches_ended_total", "Watches that this process ended, by what they became.", "status"),
		deleted:      desc("relay_retention_deleted_total", "Rows that this process deleted because they were old, by table.", "table"),
		oldest:       desc("relay_retention_oldest_timestamp_seconds", "When the oldest watch that is kept was registered."),
		behind: desc("relay_retention_behind_seconds", "For how long something has been there that retention was to delete, at most; "+
			"told by who deletes."),
	}}
}

// Describe implements prometheus.Collector.
func (m *storeMetrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.descs.up, m.descs.overdue, m.descs.budgets, m.descs.left, m.descs.destinations, m.descs.registered, m.descs.ended,
		m.descs.deleted, m.descs.oldest, m.descs.behind,
	} {
		c <- d
	}
}

// Collect implements prometheus.Collector. While the database is away the scrape
// succeeds without what only the database knows.
func (m *storeMetrics) Collect(c chan<- prometheus.Metric) {
	counter, gauge := senders(c)
	counters := m.store.Counters()
	counter(m.descs.registered, float64(counters.Registered))
	for status, n := range counters.Ended {
		counter(m.descs.ended, float64(n), status)
	}
	for table, n := range counters.Deleted {
		counter(m.descs.deleted, float64(n), table)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ask()
	gauge(m.descs.up, m.up)
	if m.err != nil {
		return
	}
	for _, kind := range []storage.GroupKind{storage.PollGroup, storage.DeliverGroup} {
		gauge(m.descs.overdue, m.overdue[kind].Seconds(), string(kind))
	}
	for state, n := range m.states.Budgets {
		gauge(m.descs.budgets, float64(n), state)
	}
	for state, n := range m.states.Destinations {
		gauge(m.descs.destinations, float64(n), state)
	}
	if !m.kept.Oldest.IsZero() {
		gauge(m.descs.oldest, float64(m.kept.Oldest.Unix()))
	}
	if m.keep > 0 {
		gauge(m.descs.behind, m.kept.Behind.Seconds())
	}
	if m.budgets != nil {
		c <- shares(m.descs.left, m.states.BudgetsLeft)
	}
}

// shares is a histogram of numbers from 0 to 1.
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

// ask finds out whether the database takes writes, and what it tells of all processes,
// which it also does while it is read-only. All questions together get readyTimeout.
func (m *storeMetrics) ask() {
	if !m.asked.IsZero() && time.Since(m.asked) < overdueFor {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	m.overdue, m.err = m.store.Overdue(ctx)
	if m.err == nil && (m.counted.IsZero() || time.Since(m.counted) >= statesFor) {
		if m.states, m.err = m.store.StateCounts(ctx, m.budgets); m.err == nil {
			m.kept, m.err = m.store.Kept(ctx, m.keep)
		}
		if m.err == nil {
			m.counted = time.Now()
		}
	}
	m.up = 0
	if m.err == nil && m.store.Writable(ctx) == nil {
		m.up = 1
	}
	m.asked = time.Now()
}

// pools tells how the connections to the stores are used. It asks neither store.
type pools struct {
	store *storage.Store
	redis redis.UniversalClient
}

// Describe implements prometheus.Collector.
func (p pools) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, c) }

// Collect implements prometheus.Collector with what the pools count by themselves.
func (p pools) Collect(c chan<- prometheus.Metric) {
	counter, gauge := senders(c)
	conns := desc("relay_database_connections", "Connections to the database, by pool and state.", "pool", "state")
	most := desc("relay_database_connections_max", "Connections that the pool may have.", "pool")
	waits := desc("relay_database_connection_waits_total", "Times that work waited for a free connection.", "pool")
	waited := desc("relay_database_connection_wait_seconds_total", "Time that work waited for free connections.", "pool")
	for name, stats := range p.store.Pools() {
		gauge(conns, float64(stats.InUse), name, "in_use")
		gauge(conns, float64(stats.Idle), name, "idle")
		gauge(most, float64(stats.MaxOpenConnections), name)
		counter(waits, float64(stats.WaitCount), name)
		counter(waited, stats.WaitDuration.Seconds(), name)
	}
	conns = desc("relay_redis_connections", "Connections to Redis, by state.", "state")
	timeouts := desc("relay_redis_connection_timeouts_total", "Times that no connection to Redis became free in time.")
	stats := p.redis.PoolStats()
	gauge(conns, float64(stats.TotalConns)-float64(stats.IdleConns), "in_use")
	gauge(conns, float64(stats.IdleConns), "idle")
	counter(timeouts, float64(stats.Timeouts))
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// senders are functions that send a counter's or a gauge's value.
func senders(c chan<- prometheus.Metric) (counter, gauge func(*prometheus.Desc, float64, ...string)) {
	of := func(kind prometheus.ValueType) func(*prometheus.Desc, float64, ...string) {
		return func(d *prometheus.Desc, value float64, labels ...string) {
			c <- prometheus.MustNewConstMetric(d, kind, value, labels...)
		}
	}
	return of(prometheus.CounterValue), of(prometheus.GaugeValue)
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
