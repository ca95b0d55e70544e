package main

import (
	"context"
	"fmt"
)

// manyDestinations is how many the burst goes to, in this row: only one worker at a
// time sends to a destination, so with one there would be nothing for the others.
const manyDestinations = 16

// rowWorkers is the burst to many destinations with one, two and four workers, and
// what fills the machine meanwhile.
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
		all = append(all, u.filled(n, ratio(u.rate, one))...)
	}
	return all, nil
}

// filled says what the burst with so many workers came to, and who used the
// machine.
func (u *burst) filled(workers int, ofOne float64) []sample {
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
	shares := u.cost.shares()
	most := shares[0]
	for _, s := range shares {
		if s.Value > most.Value {
			most = s
		}
		all = append(all, sample{Name: named + "machine: " + s.Name, Unit: "%", Value: s.Value})
	}
	return append(all, sample{Name: named + "what fills the machine most", Unit: "%", Value: most.Value, Note: most.Name})
}

// shares are who used the machine, in percent of what it could do.
func (c cost) shares() []sample {
	var total, others float64
	for _, used := range c.machine {
		total += used.Seconds()
	}
	idle, disk := c.machine["idle"].Seconds(), c.machine["iowait"].Seconds()
	others = total - idle - disk
	for _, used := range c.cpu {
		others -= used.Seconds()
	}
	share := func(name string, seconds float64) sample {
		return sample{Name: name, Value: 100 * ratio(max(seconds, 0), total)}
	}
	return []sample{
		share("relay", c.cpu.sum("serve", "api", "worker").Seconds()),
		share("PostgreSQL", c.cpu["PostgreSQL"].Seconds()),
		share("Redis", c.cpu["Redis"].Seconds()),
		share("upstream, receiver, load", c.cpu.sum("upstream", "receiver", "load").Seconds()),
		share("others", others),
		share("waiting for the disk", disk),
		share("idle", idle),
	}
}
