package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout bounds how long the question whether the stores answer may take.
const readyTimeout = 3 * time.Second

// scrapesMost bounds the requests for metrics at once: each asks the database.
const scrapesMost = 4

// startMetrics registers what is read from the stores, and serves metrics and
// health on a listener of their own if there is one.
func (p *process) startMetrics(ctx context.Context) error {
	for _, c := range []prometheus.Collector{
		newStoreMetrics(p.store, p.cfg.pollBudget), p.waker.Metrics(), pools{p.store, p.redis}, buildInfo(),
	} {
		if err := p.metrics.Register(c); err != nil {
			return err
		}
	}
	if p.cfg.metricsListen == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.metrics, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesMost}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", p.answerReady)
	address, err := p.listen(ctx, p.cfg.metricsListen, mux, func() {})
	if err != nil {
		return err
	}
	p.log.Info("metrics and health", "listen", address)
	return nil
}

func (p *process) answerReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	status := http.StatusOK
	var answer strings.Builder
	for _, part := range []struct {
		name string
		ask  func(context.Context) error
	}{{"database", p.store.Ping}, {"redis", p.redisReady}} {
		state := "ok"
		if err := part.ask(ctx); err != nil {
			status, state = http.StatusServiceUnavailable, "does not answer"
		}
		fmt.Fprintf(&answer, "%s: %s\n", part.name, state)
	}
	w.WriteHeader(status)
	fmt.Fprint(w, answer.String())
}
