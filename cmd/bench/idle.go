package main

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// idleFor is how long a relay with nothing to do is watched.
const idleFor = 10 * time.Second

// rowIdle starts `relay serve` on embedded defaults and leaves it alone.
func rowIdle(ctx context.Context, b *bench) ([]sample, error) {
	r, err := b.newRelay(ctx, shape{embedded: true}, 0)
	if err != nil {
		return nil, err
	}
	samples, err := r.idle(ctx)
	return samples, errors.Join(err, r.close(ctx))
}

func (r *relay) idle(ctx context.Context) ([]sample, error) {
	again, err := r.restart(ctx)
	if err != nil {
		return nil, err
	}
	lasting := r.b.scaled(idleFor)
	meter, err := r.meter(ctx)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, lasting); err != nil {
		return nil, err
	}
	used, err := meter.cost(ctx)
	busy := used.cpu["serve"].Seconds() / lasting.Seconds()
	return []sample{
		{Name: "of a core", Unit: "%", Value: busy * 100, Target: atMost(2)},
		{Name: "peak memory", Unit: "MiB", Value: used.peak["serve"], Target: atMost(60)},
		{Name: "first start, which makes the database", Unit: "s", Value: r.firstUp.Seconds(), Target: atMost(1)},
		{Name: "start to first answer", Unit: "s", Value: again.Seconds(), Target: atMost(1)},
	}, err
}

// restart kills the relay's processes and starts them again. It returns how long it
// took until the API answered that it is ready.
func (r *relay) restart(ctx context.Context) (time.Duration, error) {
	if err := r.kill(r.processes()...); err != nil {
		return 0, err
	}
	r.api, r.worker = nil, nil
	begun := time.Now()
	if err := r.startProcesses(); err != nil {
		return 0, err
	}
	if err := r.connect(); err != nil {
		return 0, err
	}
	ready, err := r.client.GetReadinessWithResponse(ctx)
	took := time.Since(begun)
	if err == nil && ready.StatusCode() != http.StatusOK {
		err = errNotReady
	}
	return took, err
}
