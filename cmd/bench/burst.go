package main

import (
	"context"
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

	rate    float64 // deliveries a second, from the first arrival to the last
	begun   time.Time
	took    time.Duration // from the release to the last delivery's record
	cpu     cpu
	machine cpu
	counts  storeCounts
	memory  float64
	inbox   inboxReport
}

// runBurst runs one on a new relay.
func (b *bench) runBurst(ctx context.Context, s shape, size int) (*burst, error) {
	s.settings = with(lifted(), "RELAY_POLL_MIN", "1s", "RELAY_POLL_MAX", "1s")
	r, err := b.newRelay(ctx, s, burstCredentials)
	if err != nil {
		return nil, err
	}
	burst := &burst{relay: r, size: size, box: "burst"}
	return burst, joined(burst.run(ctx), r.close(ctx))
}

func (u *burst) run(ctx context.Context) error {
	destination, err := u.relay.destination(ctx, "/webhook/"+u.box)
	if err != nil {
		return err
	}
	if err := u.relay.newLoad(destination, 4, hold).fill(ctx, u.size); err != nil {
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
	before, err := u.relay.usage()
	if err != nil {
		return err
	}
	machine, err := machineCPU()
	if err != nil {
		return err
	}
	var counts storeCounts
	if !u.relay.shape.embedded {
		if counts, err = b.counts(ctx); err != nil {
			return err
		}
	}
	u.begun = time.Now()
	if err := b.upstream.ask(ctx, "POST", "release", nil); err != nil {
		return err
	}
	if err := b.receiver.ask(ctx, "GET", "events/"+u.box+"/"+strconv.Itoa(u.size), nil); err != nil {
		return err
	}
	if err := u.relay.awaitDelivered(ctx); err != nil {
		return err
	}
	return u.settle(ctx, before, machine, counts)
}

// settle takes what was used since then.
func (u *burst) settle(ctx context.Context, before, machine cpu, counts storeCounts) error {
	u.took = time.Since(u.begun)
	used, err := u.relay.usage()
	if err != nil {
		return err
	}
	u.cpu = used.since(before)
	if used, err = machineCPU(); err != nil {
		return err
	}
	u.machine = used.since(machine)
	if !u.relay.shape.embedded {
		now, err := u.relay.b.counts(ctx)
		if err != nil {
			return err
		}
		u.counts = now.since(counts)
	}
	if u.memory, err = u.relay.resident(); err != nil {
		return err
	}
	if u.inbox, err = u.relay.b.inbox(ctx, u.box); err != nil {
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

// perThousand is processor time in seconds for each thousand operations.
func (u *burst) perThousand(groups ...string) float64 {
	return u.cpu.sum(groups...).Seconds() * 1000 / float64(u.size)
}

// each is a count for each operation.
func (u *burst) each(count float64) float64 { return count / float64(u.size) }

// rowBurst is 20,000 operations that end together, PostgreSQL and Redis.
func rowBurst(ctx context.Context, b *bench) ([]sample, error) {
	bare, err := b.limit(ctx, bareTaskPosts)
	if err != nil {
		return nil, err
	}
	u, err := b.runBurst(ctx, shape{workers: 1}, b.operations)
	if err != nil {
		return nil, err
	}
	b.round["burst"] = u.rate
	return []sample{
		{Name: "deliveries, first arrival to last", Unit: perSecond, Value: u.rate},
		{Name: "of the bare asynq+POST rate", Value: ratio(u.rate, bare), Target: atLeast(0.5)},
		{Name: "CPU per 1,000: relay", Unit: "s", Value: u.perThousand("relay"), Target: atMost(0.25)},
		{Name: "CPU per 1,000: with PostgreSQL, Redis", Unit: "s", Value: u.perThousand("relay", "PostgreSQL", "Redis"), Target: atMost(0.5)},
		{Name: "CPU per 1,000: PostgreSQL", Unit: "s", Value: u.perThousand("PostgreSQL")},
		{Name: "CPU per 1,000: Redis", Unit: "s", Value: u.perThousand("Redis")},
		{Name: "CPU per 1,000: upstream, receiver", Unit: "s", Value: u.perThousand("upstream", "receiver")},
		{Name: "release to last record", Unit: "s", Value: u.took.Seconds()},
		{Name: "PostgreSQL commits each", Value: u.each(u.counts.Commits)},
		{Name: "PostgreSQL syncs each", Value: u.each(u.counts.Syncs)},
		{Name: "PostgreSQL log each", Unit: "KiB", Value: u.each(u.counts.WALBytes) / (1 << 10)},
		{Name: "Redis commands each", Value: u.each(u.counts.RedisCommands)},
		{Name: "relay's biggest process", Unit: "MiB", Value: u.memory},
		{Name: "body", Unit: "B", Value: ratio(float64(u.inbox.Bytes), float64(u.inbox.Events))},
	}, nil
}

// rowEmbedded is the same on SQLite and the embedded Redis, in one process.
func rowEmbedded(ctx context.Context, b *bench) ([]sample, error) {
	bare, err := b.limit(ctx, bareTaskPosts)
	if err != nil {
		return nil, err
	}
	u, err := b.runBurst(ctx, shape{embedded: true}, b.operations)
	if err != nil {
		return nil, err
	}
	return []sample{
		{Name: "deliveries, first arrival to last", Unit: perSecond, Value: u.rate},
		{Name: "of the bare asynq+POST rate", Value: ratio(u.rate, bare), Target: atLeast(0.5)},
		{Name: "CPU per 1,000: relay", Unit: "s", Value: u.perThousand("relay"), Target: atMost(0.25)},
		{Name: "release to last record", Unit: "s", Value: u.took.Seconds()},
		{Name: "relay", Unit: "MiB", Value: u.memory},
	}, nil
}
