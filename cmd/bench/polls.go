package main

import (
	"context"
	"errors"
	"strconv"
	"time"
)

// rowPolls polls operations that go on, as often as the relay can.
func rowPolls(ctx context.Context, b *bench) ([]sample, error) {
	bare, err := b.limit(ctx, bareTaskGets)
	if err != nil {
		return nil, err
	}
	settings := with(lifted(), "RELAY_POLL_MIN", "100ms", "RELAY_POLL_MAX", "100ms")
	r, err := b.newRelay(ctx, shape{workers: 1, settings: settings}, burstCredentials)
	if err != nil {
		return nil, err
	}
	samples, err := r.polls(ctx, bare)
	return samples, errors.Join(err, r.close(ctx))
}

func (r *relay) polls(ctx context.Context, bare float64) ([]sample, error) {
	b := r.b
	destination, err := r.destination(ctx, "/webhook/polls")
	if err != nil {
		return nil, err
	}
	if err := r.newLoad(4, hold, destination).fill(ctx, b.operations); err != nil {
		return nil, err
	}
	if err := b.upstream.ask(ctx, "GET", "asked/"+strconv.Itoa(b.operations), nil); err != nil {
		return nil, err
	}
	meter, err := r.meter(ctx)
	if err != nil {
		return nil, err
	}
	polls, seconds, err := b.pollsDuring(ctx, b.scaled(5*time.Second))
	if err != nil {
		return nil, err
	}
	used, err := meter.cost(ctx)
	all := []sample{
		{Name: "of the bare asynq+GET rate", Value: ratio(polls/seconds, bare), Target: atLeast(1)},
		{Name: "polls", Unit: perSecond, Value: polls / seconds},
	}
	return append(all, used.full("", polls)...), err
}

// pollsDuring counts for so long what is polled again.
func (b *bench) pollsDuring(ctx context.Context, lasting time.Duration) (n, seconds float64, err error) {
	before, err := b.pollsAgain(ctx)
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	if err := pause(ctx, lasting); err != nil {
		return 0, 0, err
	}
	after, err := b.pollsAgain(ctx)
	return after - before, time.Since(begun).Seconds(), err
}

// pause lets what is measured go on for so long.
func pause(ctx context.Context, lasting time.Duration) error {
	timer := time.NewTimer(lasting)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
