package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// burstCredentials are whose the operations are, all alike.
const burstCredentials = 20

// burst holds operations until all are asked about again and again, and then ends
// all of them together. It is over when every delivery is recorded.
type burst struct {
	relay *relay
	size  int
	box   string // the receiver's path

	rate  float64       // deliveries a second, from the first arrival to the last
	took  time.Duration // from the release to the last delivery's record
	cost  cost
	inbox inboxReport
}

// runBurst runs one on a new relay, to so many destinations.
func (b *bench) runBurst(ctx context.Context, s shape, destinations int) (*burst, error) {
	s.settings = with(lifted(), "RELAY_POLL_MIN", "1s", "RELAY_POLL_MAX", "1s")
	r, err := b.newRelay(ctx, s, burstCredentials)
	if err != nil {
		return nil, err
	}
	burst := &burst{relay: r, size: b.operations, box: "burst"}
	return burst, errors.Join(burst.run(ctx, destinations), r.close(ctx))
}

func (u *burst) run(ctx context.Context, destinations int) error {
	var all []string
	for range destinations {
		destination, err := u.relay.destination(ctx, "/webhook/"+u.box)
		if err != nil {
			return err
		}
		all = append(all, destination)
	}
	if err := u.relay.newLoad(4, hold, all...).fill(ctx, u.size); err != nil {
		return err
	}
	if err := u.relay.b.upstream.ask(ctx, "GET", "asked/"+strconv.Itoa(u.size), nil); err != nil {
		return err
	}
	if err := u.release(ctx); err != nil {
		return err
	}
	return u.check()
}

// release ends the operations and measures until all is told and recorded.
func (u *burst) release(ctx context.Context) error {
	b := u.relay.b
	meter, err := u.relay.meter(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := b.upstream.ask(ctx, "POST", "release", nil); err != nil {
		return err
	}
	if err := b.receiver.ask(ctx, "GET", "events/"+u.box+"/"+strconv.Itoa(u.size), nil); err != nil {
		return err
	}
	if err := u.relay.awaitDelivered(ctx); err != nil {
		return err
	}
	u.took = time.Since(begun)
	if u.cost, err = meter.cost(ctx); err != nil {
		return err
	}
	if u.inbox, err = b.inbox(ctx, u.box); err != nil {
		return err
	}
	u.rate = rateOf(u.inbox.Events, time.Duration(u.inbox.Last-u.inbox.First))
	return nil
}

// check fails unless every operation's event arrived once, with a right signature.
func (u *burst) check() error {
	i := u.inbox
	if i.Events != u.size || len(i.Arrived) != u.size || i.Duplicates != 0 || i.Unverified != 0 {
		return fmt.Errorf("of %d operations %d were told of, by %d events, with %d duplicates; %d signatures were wrong",
			u.size, len(i.Arrived), i.Events, i.Duplicates, i.Unverified)
	}
	return nil
}

// rowBurst is 20,000 operations that end together, PostgreSQL and Redis.
func rowBurst(ctx context.Context, b *bench) ([]sample, error) {
	return b.burstRow(ctx, shape{workers: 1})
}

// rowEmbedded is the same on SQLite and the embedded Redis, in one process.
func rowEmbedded(ctx context.Context, b *bench) ([]sample, error) {
	return b.burstRow(ctx, shape{embedded: true})
}

func (b *bench) burstRow(ctx context.Context, s shape) ([]sample, error) {
	bare, err := b.limit(ctx, bareTaskPosts)
	if err != nil {
		return nil, err
	}
	u, err := b.runBurst(ctx, s, 1)
	if err != nil {
		return nil, err
	}
	n := float64(u.size)
	used := u.cost.full("", n)
	used[0].Target = atMost(0.25)
	all := []sample{
		{Name: "of the bare asynq+POST rate", Value: ratio(u.rate, bare), Target: atLeast(0.5)},
		{Name: "deliveries, first arrival to last", Unit: perSecond, Value: u.rate},
		{Name: "release to last record", Unit: "s", Value: u.took.Seconds()},
	}
	if !s.embedded {
		used[1].Target = atMost(0.5)
	}
	return append(all, used...), nil
}

// manyDestinations is how many the burst goes to, in this row: only one worker at a
// time sends to a destination, so with one there would be nothing for the others.
const manyDestinations = 16

// rowWorkers is the burst to many destinations with one, two and four workers.
func rowWorkers(ctx context.Context, b *bench) ([]sample, error) {
	var all []sample
	var one float64
	for _, n := range []int{1, 2, 4} {
		u, err := b.runBurst(ctx, shape{workers: n}, manyDestinations)
		if err != nil {
			return nil, err
		}
		if n == 1 {
			one = u.rate
		}
		all = append(all, u.samples(n, ratio(u.rate, one))...)
	}
	return all, nil
}

// samples says what the burst with so many workers came to.
func (u *burst) samples(workers int, ofOne float64) []sample {
	named := fmt.Sprintf("%d workers: ", workers)
	if workers == 1 {
		named = "1 worker: "
	}
	all := []sample{
		{Name: named + "deliveries", Unit: perSecond, Value: u.rate},
		{Name: named + "of one worker's rate", Value: ofOne},
	}
	all = append(all, u.cost.brief(named, float64(u.size))...)
	for _, m := range u.cost.memory() {
		m.Name = named + m.Name
		all = append(all, m)
	}
	return all
}
