package main

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oprelay/storage"
)

// overdueFor is how long an answer of the database is shown to whoever scrapes,
// so that more scrapers ask it no more often.
const overdueFor = time.Second

// overdue tells how late the relay is, by kind, and whether the database answers;
// deploy/README.md says which to alert on.
type overdue struct {
	store *storage.Store

	mu    sync.Mutex
	asked time.Time
	late  map[storage.GroupKind]time.Duration
	err   error
}

// Describe tells of the metrics.
func (*overdue) Describe(c chan<- *prometheus.Desc) {
	c <- overdueDesc()
	c <- databaseUpDesc()
}

func overdueDesc() *prometheus.Desc {
	return prometheus.NewDesc("relay_oldest_overdue_seconds",
		"How long the most overdue work has been waiting, by kind; 0 if nothing is overdue.", []string{"kind"}, nil)
}

func databaseUpDesc() *prometheus.Desc {
	return prometheus.NewDesc("relay_database_up", "1 if the database answered the scrape, else 0.", nil, nil)
}

// Collect asks the database. While it is away nothing is said of what is overdue,
// and the scrape does not fail.
func (o *overdue) Collect(c chan<- prometheus.Metric) {
	late, err := o.ask()
	if err != nil {
		c <- prometheus.MustNewConstMetric(databaseUpDesc(), prometheus.GaugeValue, 0)
		return
	}
	c <- prometheus.MustNewConstMetric(databaseUpDesc(), prometheus.GaugeValue, 1)
	for _, kind := range []storage.GroupKind{storage.PollGroup, storage.DeliverGroup} {
		c <- prometheus.MustNewConstMetric(overdueDesc(), prometheus.GaugeValue, late[kind].Seconds(), string(kind))
	}
}

func (o *overdue) ask() (map[storage.GroupKind]time.Duration, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.asked.IsZero() && time.Since(o.asked) < overdueFor {
		return o.late, o.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	o.late, o.err = o.store.Overdue(ctx)
	o.asked = time.Now()
	return o.late, o.err
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
