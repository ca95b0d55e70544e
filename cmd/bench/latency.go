package main

import (
	"context"
	"errors"
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
	age         time.Duration // of an operation when it ends
	rate, n     int
	first       uint64 // the number before that of the first operation
}

// streamed is, sorted, how long a stream's registrations took, how long after the
// answer to one the upstream was first asked, and how long after the terminal answer
// the webhook arrived.
type streamed struct{ registered, polled, arrived []time.Duration }

func (s stream) run(ctx context.Context) (got streamed, err error) {
	destination, err := s.relay.destination(ctx, "/webhook/"+s.box)
	if err != nil {
		return got, err
	}
	mine := *s.relay
	if s.credentials != nil {
		mine.credentials = s.credentials
	}
	l := mine.newLoad(0, func(number uint64) operation { return until(time.Now().Add(s.age), number) }, destination)
	l.next.Store(s.first)
	answered := make([]int64, s.n+1)
	l.answered = func(number uint64) { answered[number-s.first] = time.Now().UnixNano() }
	if got.registered, err = open(ctx, s.rate, s.n, l.one); err != nil {
		return got, err
	}
	b := s.relay.b
	if err := b.receiver.ask(ctx, "GET", "events/"+s.box+"/"+strconv.Itoa(s.n), nil); err != nil {
		return got, err
	}
	inbox, err := b.inbox(ctx, s.box)
	if err != nil {
		return got, err
	}
	if inbox.Duplicates+inbox.Unverified != 0 || len(inbox.Arrived) != s.n {
		return got, fmt.Errorf("of %d operations %d were told of, with %d duplicates; %d signatures were wrong",
			s.n, len(inbox.Arrived), inbox.Duplicates, inbox.Unverified)
	}
	var upstream upstreamReport
	if err := b.upstream.ask(ctx, "GET", "report", &upstream); err != nil {
		return got, err
	}
	for number, at := range inbox.Arrived {
		got.arrived = append(got.arrived, time.Duration(at-upstream.Told[number]))
		got.polled = append(got.polled, time.Duration(upstream.Asked[number]-answered[uint64(number)-s.first]))
	}
	sorted(got.arrived)
	sorted(got.polled)
	return got, nil
}

// rowLatency is at 100 operations a second.
func rowLatency(ctx context.Context, b *bench) ([]sample, error) {
	r, err := b.newRelay(ctx, shape{workers: 1, settings: lifted()}, burstCredentials)
	if err != nil {
		return nil, err
	}
	samples, err := r.latency(ctx)
	return samples, errors.Join(err, r.close(ctx))
}

func (r *relay) latency(ctx context.Context) ([]sample, error) {
	meter, err := r.meter(ctx)
	if err != nil {
		return nil, err
	}
	n := max(r.b.operations*3/40, 1) // 1,500 of 20,000
	got, err := stream{relay: r, box: "latency", age: latencyAge, rate: latencyRate, n: n}.run(ctx)
	if err != nil {
		return nil, err
	}
	used, err := meter.cost(ctx)
	all := []sample{
		{Name: "terminal answer to arrival, p50", Unit: "ms", Value: millis(percentile(got.arrived, 50)), Target: atMost(5)},
		{Name: "terminal answer to arrival, p99", Unit: "ms", Value: millis(percentile(got.arrived, 99)), Target: atMost(15)},
		{Name: "terminal answer to arrival, max", Unit: "ms", Value: millis(percentile(got.arrived, 100))},
		{Name: "registration, p50", Unit: "ms", Value: millis(percentile(got.registered, 50))},
		{Name: "registration, p99", Unit: "ms", Value: millis(percentile(got.registered, 99))},
		{Name: "registration answered to first poll, p50", Unit: "ms", Value: millis(percentile(got.polled, 50))},
		{Name: "registration answered to first poll, p99", Unit: "ms", Value: millis(percentile(got.polled, 99))},
	}
	return append(all, used.full("", float64(n))...), err
}

func millis(d time.Duration) float64 { return d.Seconds() * 1000 }
