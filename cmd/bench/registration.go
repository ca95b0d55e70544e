package main

import (
	"context"
	"time"
)

const registrationConnections = 16

// rowRegistration is beside a worker at its usual budgets.
func rowRegistration(ctx context.Context, b *bench) ([]sample, error) {
	settings := map[string]string{"RELAY_API_RATE_LIMIT": lifted()["RELAY_API_RATE_LIMIT"]}
	r, err := b.newRelay(ctx, shape{workers: 1, settings: settings}, burstCredentials)
	if err != nil {
		return nil, err
	}
	samples, err := r.registration(ctx)
	return samples, joined(err, r.close(ctx))
}

func (r *relay) registration(ctx context.Context) ([]sample, error) {
	destination, err := r.destination(ctx, "/webhook/registration")
	if err != nil {
		return nil, err
	}
	l := r.newLoad(destination, registrationConnections, hold)
	before, err := r.usage()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	took, err := closed(ctx, registrationConnections, r.b.scaled(4*time.Second), l.one)
	if err != nil {
		return nil, err
	}
	single := ratio(float64(len(took)), time.Since(begun).Seconds())
	between, err := r.usage()
	if err != nil {
		return nil, err
	}
	batched := 2 * r.b.operations
	begun = time.Now()
	if err := l.fill(ctx, batched); err != nil {
		return nil, err
	}
	many := ratio(float64(batched), time.Since(begun).Seconds())
	after, err := r.usage()
	if err != nil {
		return nil, err
	}
	cost := func(used cpu, n int) float64 {
		return used.sum("relay", "PostgreSQL", "Redis").Seconds() * 1000 / float64(n)
	}
	return []sample{
		{Name: "single, at 16 connections", Unit: perSecond, Value: single, Target: atLeast(2000)},
		{Name: "single, p99", Unit: "ms", Value: millis(percentile(took, 99))},
		{Name: "single, CPU per 1,000: relay, PostgreSQL, Redis", Unit: "s", Value: cost(between.since(before), len(took))},
		{Name: "single, CPU per 1,000: load", Unit: "s", Value: between.since(before)["load"].Seconds() * 1000 / float64(len(took))},
		{Name: "watches in batches of 1,000", Unit: perSecond, Value: many, Target: atLeast(20_000)},
		{Name: "batches, CPU per 1,000: relay, PostgreSQL, Redis", Unit: "s", Value: cost(after.since(between), batched)},
	}, nil
}
