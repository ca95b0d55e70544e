package main

import (
	"context"
	"strconv"
	"time"
)

const (
	// disturbedFor is how long it is watched after FLUSHALL: longer than the pause that
	// is allowed, so that a longer one shows.
	disturbedFor = 10 * time.Second
	lookEvery    = 20 * time.Millisecond
)

// lull is the longest time in which a number did not grow.
type lull struct {
	n       int64
	since   time.Time
	longest time.Duration
}

// look takes what the number is now.
func (l *lull) look(n int64, now time.Time) {
	if !l.since.IsZero() {
		l.longest = max(l.longest, now.Sub(l.since))
	}
	if n != l.n || l.since.IsZero() {
		l.n, l.since = n, now
	}
}

// disturb lets all watches end at their next poll, empties Redis in the middle of it,
// and then restarts the relay. What is polled and told of are the watches that were
// there before: nothing is registered any more.
func (m *million) disturb(ctx context.Context) ([]sample, error) {
	b := m.relay.b
	told, err := b.arrived(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.upstream.ask(ctx, "POST", "release", nil); err != nil {
		return nil, err
	}
	if err := b.receiver.ask(ctx, "GET", "events/million/"+strconv.FormatInt(told+1, 10), nil); err != nil {
		return nil, err
	}
	if err := b.redisClient.FlushAll(ctx).Err(); err != nil {
		return nil, err
	}
	var polls, arrivals lull
	before, err := b.pollsAgain(ctx)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	for time.Since(begun) < b.scaled(disturbedFor) {
		if err := b.look(ctx, &polls, &arrivals); err != nil {
			return nil, err
		}
		if err := pause(ctx, lookEvery); err != nil {
			return nil, err
		}
	}
	rate := (float64(polls.n) - before) / time.Since(begun).Seconds()
	restarted, err := m.again(ctx)
	return append([]sample{
		{Name: "longest pause of polls after FLUSHALL", Unit: "s", Value: polls.longest.Seconds(), Target: atMost(5)},
		{Name: "longest pause of deliveries after FLUSHALL", Unit: "s", Value: arrivals.longest.Seconds(), Target: atMost(5)},
		{Name: "polls after FLUSHALL", Unit: perSecond, Value: rate},
		{Name: "polls after FLUSHALL, of those on schedule", Value: ratio(rate, float64(m.rate))},
	}, restarted...), err
}

// look takes how many polls and arrivals there were up to now.
func (b *bench) look(ctx context.Context, polls, arrivals *lull) error {
	polled, err := b.pollsAgain(ctx)
	if err != nil {
		return err
	}
	told, err := b.arrived(ctx)
	now := time.Now()
	polls.look(int64(polled), now)
	arrivals.look(told, now)
	return err
}

// arrived is how many events came.
func (b *bench) arrived(ctx context.Context) (int64, error) {
	var report inboxReport
	err := b.receiver.ask(ctx, "GET", "count/million", &report)
	return int64(report.Events), err
}

// again restarts API and worker, and waits until a watch is polled again.
func (m *million) again(ctx context.Context) ([]sample, error) {
	b := m.relay.b
	begun := time.Now()
	took, err := m.relay.restart(ctx)
	if err != nil {
		return nil, err
	}
	before, err := b.pollsAgain(ctx)
	if err != nil {
		return nil, err
	}
	for now := before; now == before; {
		if err := pause(ctx, lookEvery); err != nil {
			return nil, err
		}
		if now, err = b.pollsAgain(ctx); err != nil {
			return nil, err
		}
	}
	return []sample{
		{Name: "restart of API and worker", Unit: "s", Value: took.Seconds(), Target: atMost(10)},
		{Name: "kill of API and worker to polls again", Unit: "s", Value: time.Since(begun).Seconds()},
	}, nil
}
