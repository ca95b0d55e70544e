package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const (
	latencyRate = 100 // operations a second
	// latencyAge is how old an operation is when it ends.
	latencyAge = 1500 * time.Millisecond
)

// stream registers operations at a steady rate, each of which ends by itself, and
// measures how long after the upstream's terminal answer the webhook arrives.
type stream struct {
	relay       *relay
	box         string // the receiver's path
	credentials []string
	rate, n     int
	first       uint64 // the number before that of the first operation
}

// run returns how long the registrations and the webhooks took.
func (s stream) run(ctx context.Context) (registered, arrived []time.Duration, err error) {
	destination, err := s.relay.destination(ctx, "/webhook/"+s.box)
	if err != nil {
		return nil, nil, err
	}
	mine := *s.relay
	if s.credentials != nil {
		mine.credentials = s.credentials
	}
	l := mine.newLoad(destination, 0, func(number uint64) operation { return until(time.Now().Add(latencyAge), number) })
	l.next.Store(s.first)
	if registered, err = open(ctx, s.rate, s.n, l.one); err != nil {
		return nil, nil, err
	}
	b := s.relay.b
	if err := b.receiver.ask(ctx, "GET", "events/"+s.box+"/"+strconv.Itoa(s.n), nil); err != nil {
		return nil, nil, err
	}
	arrived, err = b.delays(ctx, s.box)
	if err == nil && len(arrived) != s.n {
		err = fmt.Errorf("%d of %d operations were told of", len(arrived), s.n)
	}
	return registered, arrived, err
}

// delays are, sorted, from the terminal answer of each operation to its arrival.
func (b *bench) delays(ctx context.Context, box string) ([]time.Duration, error) {
	inbox, err := b.inbox(ctx, box)
	if err != nil {
		return nil, err
	}
	if inbox.Duplicates+inbox.Unverified != 0 {
		return nil, fmt.Errorf("%d duplicates, %d wrong signatures", inbox.Duplicates, inbox.Unverified)
	}
	var answers upstreamReport
	if err := b.upstream.ask(ctx, "GET", "report", &answers); err != nil {
		return nil, err
	}
	var delays []time.Duration
	for number, at := range inbox.Arrived {
		delays = append(delays, time.Duration(at-answers.Told[number]))
	}
	return sorted(delays), nil
}

// rowLatency is at 100 operations a second.
func rowLatency(ctx context.Context, b *bench) ([]sample, error) {
	r, err := b.newRelay(ctx, shape{workers: 1, settings: lifted()}, burstCredentials)
	if err != nil {
		return nil, err
	}
	var counts storeCounts
	before, err := r.usage()
	if err == nil {
		counts, err = b.counts(ctx)
	}
	if err != nil {
		return nil, joined(err, r.close(ctx))
	}
	n := max(b.operations*3/40, 1) // 1,500 of 20,000
	registered, arrived, err := stream{relay: r, box: "latency", rate: latencyRate, n: n}.run(ctx)
	used, usedErr := r.usage()
	now, countErr := b.counts(ctx)
	if err := joined(err, usedErr, countErr, r.close(ctx)); err != nil {
		return nil, err
	}
	used, counts = used.since(before), now.since(counts)
	each := func(count float64) float64 { return count / float64(n) }
	return []sample{
		{Name: "terminal answer to arrival, p50", Unit: "ms", Value: millis(percentile(arrived, 50)), Target: atMost(5)},
		{Name: "terminal answer to arrival, p99", Unit: "ms", Value: millis(percentile(arrived, 99)), Target: atMost(15)},
		{Name: "terminal answer to arrival, max", Unit: "ms", Value: millis(percentile(arrived, 100))},
		{Name: "registration, p50", Unit: "ms", Value: millis(percentile(registered, 50))},
		{Name: "registration, p99", Unit: "ms", Value: millis(percentile(registered, 99))},
		{Name: "CPU per 1,000: relay", Unit: "s", Value: each(used["relay"].Seconds()) * 1000},
		{Name: "CPU per 1,000: with PostgreSQL, Redis", Unit: "s", Value: each(used.sum("relay", "PostgreSQL", "Redis").Seconds()) * 1000},
		{Name: "PostgreSQL commits each, registration too", Value: each(counts.Commits)},
		{Name: "Redis commands each", Value: each(counts.RedisCommands)},
	}, nil
}

func millis(d time.Duration) float64 { return d.Seconds() * 1000 }
