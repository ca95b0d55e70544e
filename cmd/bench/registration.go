package main

import (
	"context"
	"errors"
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
	return samples, errors.Join(err, r.close(ctx))
}

func (r *relay) registration(ctx context.Context) ([]sample, error) {
	destination, err := r.destination(ctx, "/webhook/registration")
	if err != nil {
		return nil, err
	}
	l := r.newLoad(registrationConnections, hold, destination)
	meter, err := r.meter(ctx)
	if err != nil {
		return nil, err
	}
	var all []sample
	for _, way := range []struct {
		name   string
		do     func(context.Context) error
		target *target
	}{{"single", l.one, atLeast(2000)}, {"single with a key", l.keyed, nil}} {
		begun := time.Now()
		took, err := closed(ctx, registrationConnections, r.b.scaled(3*time.Second), way.do)
		if err != nil {
			return nil, err
		}
		rate := ratio(float64(len(took)), time.Since(begun).Seconds())
		used, err := meter.cost(ctx)
		if err != nil {
			return nil, err
		}
		all = append(append(all,
			sample{Name: way.name + ", at 16 connections", Unit: perSecond, Value: rate, Target: way.target},
			sample{Name: way.name + ", p99", Unit: "ms", Value: millis(percentile(took, 99))},
		), used.brief(way.name+", ", float64(len(took)))...)
	}
	batched := 2 * r.b.operations
	begun := time.Now()
	if err := l.fill(ctx, batched); err != nil {
		return nil, err
	}
	rate := ratio(float64(batched), time.Since(begun).Seconds())
	used, err := meter.cost(ctx)
	all = append(all, sample{Name: "watches in batches of 1,000", Unit: perSecond, Value: rate, Target: atLeast(20_000)})
	return append(all, used.full("batches, ", float64(batched))...), err
}
