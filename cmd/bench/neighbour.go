package main

import (
	"context"
	"errors"
	"time"
)

const (
	neighbourRate = 50 // operations a second of the healthy destination
	// neighbourCredential is its credential, nobody else's.
	neighbourCredential = "neighbour"
)

// rowNeighbour measures a healthy destination alone, and again from the moment on
// at which a burst ends whose messages go to a destination that hangs and to one
// that fails.
func rowNeighbour(ctx context.Context, b *bench) ([]sample, error) {
	r, err := b.newRelay(ctx, shape{workers: 1, settings: with(lifted(), "RELAY_DELIVERY_TIMEOUT", "5s")}, burstCredentials)
	if err != nil {
		return nil, err
	}
	samples, err := r.neighbour(ctx)
	return samples, errors.Join(err, r.close(ctx))
}

func (r *relay) neighbour(ctx context.Context) ([]sample, error) {
	b := r.b
	crowd := r.credentials
	if err := r.addCredential(ctx, neighbourCredential); err != nil {
		return nil, err
	}
	mine := r.credentials[len(crowd):]
	n := max(b.operations/40, 1) // 500 of 20,000
	healthy := stream{relay: r, credentials: mine, age: latencyAge, rate: neighbourRate, n: n, box: "alone", first: 1 << 40}
	alone, err := healthy.run(ctx)
	if err != nil {
		return nil, err
	}

	r.credentials = crowd
	meter, err := r.meter(ctx)
	if err != nil {
		return nil, err
	}
	ends := time.Now().Add(b.scaled(8 * time.Second)) // registered by then, or soon after
	for i, path := range []string{"/hangs", "/fails"} {
		destination, err := r.destination(ctx, path)
		if err != nil {
			return nil, err
		}
		l := r.newLoad(4, func(number uint64) operation { return until(ends, number) }, destination)
		l.next.Store(uint64(i+1) << 32)
		if err := l.fill(ctx, b.operations/2); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, time.Until(ends)); err != nil {
		return nil, err
	}
	healthy.box, healthy.first = "beside", 1<<41
	beside, err := healthy.run(ctx)
	if err != nil {
		return nil, err
	}
	used, err := meter.cost(ctx)
	p99 := func(s streamed) float64 { return millis(percentile(s.arrived, 99)) }
	all := []sample{
		{Name: "alone, p50", Unit: "ms", Value: millis(percentile(alone.arrived, 50))},
		{Name: "alone, p99", Unit: "ms", Value: p99(alone)},
		{Name: "beside a burst to others that hang and fail, p50", Unit: "ms", Value: millis(percentile(beside.arrived, 50))},
		{Name: "beside a burst to others that hang and fail, p99", Unit: "ms", Value: p99(beside)},
		{Name: "p99 beside of p99 alone", Value: ratio(p99(beside), p99(alone)), Target: atMost(2)},
	}
	return append(all, used.full("beside, ", float64(b.operations+n))...), err
}
