package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"oprelay/storage"
)

// pools tells how the connections to the stores are used. It asks neither store.
type pools struct {
	store *storage.Store
	redis redis.UniversalClient
}

type poolDescs struct{ conns, most, waits, waited, redisConns, redisTimeouts *prometheus.Desc }

func newPoolDescs() poolDescs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return poolDescs{
		conns:         desc("relay_database_connections", "Connections to the database, by pool and state.", "pool", "state"),
		most:          desc("relay_database_connections_max", "Connections that the pool may have.", "pool"),
		waits:         desc("relay_database_connection_waits_total", "Times that work waited for a free connection.", "pool"),
		waited:        desc("relay_database_connection_wait_seconds_total", "Time that work waited for free connections.", "pool"),
		redisConns:    desc("relay_redis_connections", "Connections to Redis, by state.", "state"),
		redisTimeouts: desc("relay_redis_connection_timeouts_total", "Times that no connection to Redis became free in time."),
	}
}

// Describe tells of the metrics.
func (p pools) Describe(c chan<- *prometheus.Desc) {
	d := newPoolDescs()
	for _, desc := range []*prometheus.Desc{d.conns, d.most, d.waits, d.waited, d.redisConns, d.redisTimeouts} {
		c <- desc
	}
}

// Collect reads what the pools count by themselves.
func (p pools) Collect(c chan<- prometheus.Metric) {
	d := newPoolDescs()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter := func(desc *prometheus.Desc, value float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...)
	}
	for name, stats := range p.store.Pools() {
		gauge(d.conns, float64(stats.InUse), name, "in_use")
		gauge(d.conns, float64(stats.Idle), name, "idle")
		gauge(d.most, float64(stats.MaxOpenConnections), name)
		counter(d.waits, float64(stats.WaitCount), name)
		counter(d.waited, stats.WaitDuration.Seconds(), name)
	}
	stats := p.redis.PoolStats()
	gauge(d.redisConns, float64(stats.TotalConns)-float64(stats.IdleConns), "in_use")
	gauge(d.redisConns, float64(stats.IdleConns), "idle")
	counter(d.redisTimeouts, float64(stats.Timeouts))
}
