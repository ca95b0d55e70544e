package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"oprelay/cmd/bench/chart"
)

const (
	watchesPerCredential = 100
	// pollsPerSecond is how many polls all watches together ask for on schedule.
	pollsPerSecond = 1000

	probeRate, probes = 100, 500
	pages             = 300
)

// rowMillion registers watches by powers of ten, polls them on schedule, and
// measures at each what depends on how many there are.
func rowMillion(ctx context.Context, b *bench) ([]sample, error) {
	interval := max(10, b.watches/pollsPerSecond)
	schedule := strconv.Itoa(interval) + "s"
	settings := with(lifted(), "RELAY_POLL_MIN", schedule, "RELAY_POLL_MAX", schedule)
	r, err := b.newRelay(ctx, shape{workers: 1, settings: settings}, max(1, b.watches/watchesPerCredential))
	if err != nil {
		return nil, err
	}
	samples, err := r.million(ctx)
	return samples, joined(err, r.close(ctx))
}

func (r *relay) million(ctx context.Context) ([]sample, error) {
	destination, err := r.destination(ctx, "/webhook/million")
	if err != nil {
		return nil, err
	}
	l := r.newLoad(destination, registrationConnections, hold)
	var all []sample
	for _, n := range sizes(r.b.watches) {
		p, err := r.point(ctx, l, n)
		if err != nil {
			return nil, fmt.Errorf("at %d watches: %w", n, err)
		}
		r.b.points = append(r.b.points, p)
		all = append(all, told(p)...)
	}
	first, last := r.b.points[0], r.b.points[len(r.b.points)-1]
	all = append(all,
		sample{Name: "registration p99, of that at the fewest", Value: ratio(last.RegistrationP99, first.RegistrationP99), Target: atMost(2)},
		sample{Name: "list page p99, of that at the fewest", Value: ratio(last.ListP99, first.ListP99), Target: atMost(2)},
		sample{Name: "relay's biggest process", Unit: "MiB", Value: last.Relay, Target: atMost(500)},
		sample{Name: "Redis", Unit: "MiB", Value: last.Redis, Target: atMost(1024)},
	)
	disturbed, err := r.disturb(ctx, l)
	return append(all, disturbed...), err
}

// sizes are the powers of ten from a thousand on, and most itself.
func sizes(most int) []int {
	var all []int
	for n := 1000; n < most; n *= 10 {
		all = append(all, n)
	}
	return append(all, most)
}

// point registers up to n watches, waits until each was polled, and measures.
func (r *relay) point(ctx context.Context, l *load, n int) (p chart.Point, err error) {
	b := r.b
	p.Watches = n
	missing := n - int(l.next.Load())
	begun := time.Now()
	if err := l.fill(ctx, missing); err != nil {
		return p, err
	}
	p.RegistrationRate = ratio(float64(missing), time.Since(begun).Seconds())
	if err := b.upstream.ask(ctx, "GET", "asked/"+strconv.Itoa(n), nil); err != nil {
		return p, err
	}
	p.FirstPollRate = ratio(float64(missing), time.Since(begun).Seconds())
	b.sayf("    %d watches are registered and polled", n)
	took, err := open(ctx, probeRate, min(probes, n), l.one)
	if err != nil {
		return p, err
	}
	p.RegistrationP50, p.RegistrationP99 = millis(percentile(took, 50)), millis(percentile(took, 99))
	if took, err = r.pages(ctx, l); err != nil {
		return p, err
	}
	p.ListP50, p.ListP99 = millis(percentile(took, 50)), millis(percentile(took, 99))
	if p.Overdue, err = r.overdue(ctx); err != nil {
		return p, err
	}
	if p.Relay, err = r.resident(); err != nil {
		return p, err
	}
	used, err := b.redisInfo(ctx, "memory", "used_memory")
	p.Redis = used / (1 << 20)
	return p, err
}

// pages asks for lists of watches in the ways that people do.
func (r *relay) pages(ctx context.Context, l *load) ([]time.Duration, error) {
	var took []time.Duration
	for i := range pages {
		path := []string{"?limit=50", "?status=watching&limit=50", "?operation_id=" + hold(uint64(i+1)).String()}[i%3]
		begun := time.Now()
		if err := l.get(ctx, "/v1/watches"+path); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun))
	}
	return sorted(took), nil
}

// overdue is for how many seconds the poll that waits the longest is overdue, as
// the worker's own metric has it.
func (r *relay) overdue(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.worker[0].URL+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), `relay_oldest_overdue_seconds{kind="poll"} `); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, nil // nothing was due yet
}

// told is a point as samples.
func told(p chart.Point) []sample {
	at := func(what string) string { return fmt.Sprintf("at %d: %s", p.Watches, what) }
	return []sample{
		{Name: at("registered in batches"), Unit: perSecond, Value: p.RegistrationRate},
		{Name: at("registered and polled"), Unit: perSecond, Value: p.FirstPollRate},
		{Name: at("registration, p50"), Unit: "ms", Value: p.RegistrationP50},
		{Name: at("registration, p99"), Unit: "ms", Value: p.RegistrationP99},
		{Name: at("list page, p50"), Unit: "ms", Value: p.ListP50},
		{Name: at("list page, p99"), Unit: "ms", Value: p.ListP99},
		{Name: at("oldest overdue poll"), Unit: "s", Value: p.Overdue},
		{Name: at("relay's biggest process"), Unit: "MiB", Value: p.Relay},
		{Name: at("Redis"), Unit: "MiB", Value: p.Redis},
	}
}

// disturb empties Redis, and then restarts the relay, with all watches there.
func (r *relay) disturb(ctx context.Context, l *load) ([]sample, error) {
	b := r.b
	begun := time.Now()
	if err := b.redisClient.FlushAll(ctx).Err(); err != nil {
		return nil, err
	}
	l.ends = func(number uint64) operation { return until(begun, number) }
	if err := l.one(ctx); err != nil {
		return nil, err
	}
	if err := b.receiver.ask(ctx, "GET", "events/million/1", nil); err != nil {
		return nil, err
	}
	arrived := time.Since(begun)
	polls, seconds, err := b.pollsDuring(ctx, b.scaled(5*time.Second))
	if err != nil {
		return nil, err
	}
	took, err := r.restart(ctx)
	return []sample{
		{Name: "FLUSHALL to the arrival of what is registered then", Unit: "s", Value: arrived.Seconds(), Target: atMost(5)},
		{Name: "polls after FLUSHALL", Unit: perSecond, Value: polls / seconds},
		{Name: "restart of API and worker", Unit: "s", Value: took.Seconds(), Target: atMost(10)},
	}, err
}
