package main

import (
	"context"
	"fmt"
)

// rowWorkers is the burst with two and with four workers, and what fills the
// machine meanwhile.
func rowWorkers(ctx context.Context, b *bench) ([]sample, error) {
	one, ok := b.round["burst"]
	if !ok {
		u, err := b.runBurst(ctx, shape{workers: 1}, b.operations)
		if err != nil {
			return nil, err
		}
		one = u.rate
	}
	var all []sample
	for _, n := range []int{2, 4} {
		u, err := b.runBurst(ctx, shape{workers: n}, b.operations)
		if err != nil {
			return nil, err
		}
		all = append(all, u.filled(n, one)...)
	}
	return all, nil
}

// filled says what the burst with so many workers came to, and who used the
// machine.
func (u *burst) filled(workers int, one float64) []sample {
	name := func(what string) string { return fmt.Sprintf("%d workers: %s", workers, what) }
	var total, others float64
	for _, used := range u.machine {
		total += used.Seconds()
	}
	share := func(seconds float64) float64 { return 100 * ratio(seconds, total) }
	others = total - u.machine["idle"].Seconds() - u.machine["iowait"].Seconds()
	for _, used := range u.cpu {
		others -= used.Seconds()
	}
	return []sample{
		{Name: name("deliveries"), Unit: perSecond, Value: u.rate},
		{Name: name("of one worker's rate"), Value: ratio(u.rate, one)},
		{Name: name("CPU per 1,000: relay, PostgreSQL, Redis"), Unit: "s", Value: u.perThousand("relay", "PostgreSQL", "Redis")},
		{Name: name("machine: relay"), Unit: "%", Value: share(u.cpu["relay"].Seconds())},
		{Name: name("machine: PostgreSQL"), Unit: "%", Value: share(u.cpu["PostgreSQL"].Seconds())},
		{Name: name("machine: Redis"), Unit: "%", Value: share(u.cpu["Redis"].Seconds())},
		{Name: name("machine: upstream, receiver, load"), Unit: "%", Value: share(u.cpu.sum("upstream", "receiver", "load").Seconds())},
		{Name: name("machine: others"), Unit: "%", Value: share(max(others, 0))},
		{Name: name("machine: waiting for the disk"), Unit: "%", Value: share(u.machine["iowait"].Seconds())},
		{Name: name("machine: idle"), Unit: "%", Value: share(u.machine["idle"].Seconds())},
	}
}
