package main

import (
	"context"
	"errors"
)

// meter knows what the relay and its stores had used when it was started.
type meter struct {
	relay   *relay
	cpu     cpu
	machine cpu
	counts  storeCounts
}

// cost is what was used meanwhile, and the most memory that each role ever had.
type cost struct {
	cpu      cpu
	machine  cpu
	counts   storeCounts
	peak     map[string]float64 // MiB, of the biggest process of a role
	embedded bool               // without stores of its own
}

// meter starts one.
func (r *relay) meter(ctx context.Context) (m meter, err error) {
	m.relay = r
	var faults [3]error
	m.cpu, faults[0] = r.usage()
	m.machine, faults[1] = machineCPU()
	if !r.shape.embedded {
		m.counts, faults[2] = r.b.counts(ctx)
	}
	return m, errors.Join(faults[:]...)
}

// cost is what was used since the meter was started, or was read last.
func (m *meter) cost(ctx context.Context) (cost, error) {
	now, err := m.relay.meter(ctx)
	if err != nil {
		return cost{}, err
	}
	peak, err := m.relay.peaks()
	c := cost{
		cpu: now.cpu.since(m.cpu), machine: now.machine.since(m.machine), counts: now.counts.since(m.counts),
		peak: peak, embedded: m.relay.shape.embedded,
	}
	*m = now
	return c, err
}

// brief is the cost of n things: first the relay's processor time, then that of the
// stores with it, then what they did.
func (c cost) brief(of string, n float64) []sample {
	seconds := func(what string, groups ...string) sample {
		return sample{Name: of + "CPU per 1,000: " + what, Unit: "s", Value: ratio(c.cpu.sum(groups...).Seconds()*1000, n)}
	}
	relay := seconds("relay", "serve", "api", "worker")
	if c.embedded {
		return []sample{relay}
	}
	return []sample{
		relay,
		seconds("with PostgreSQL, Redis", "serve", "api", "worker", "PostgreSQL", "Redis"),
		{Name: of + "PostgreSQL commits each", Value: ratio(c.counts.Commits, n)},
		{Name: of + "Redis commands each", Value: ratio(c.counts.RedisCommands, n)},
	}
}

// full is the same, and who used the processor time, and the memory.
func (c cost) full(of string, n float64) []sample {
	all := c.brief(of, n)
	groups := []string{"api", "worker", "PostgreSQL", "Redis"}
	if c.embedded {
		groups = nil
	}
	for _, group := range append(groups, "upstream", "receiver", "load") {
		all = append(all, sample{Name: of + "CPU per 1,000: " + group, Unit: "s", Value: ratio(c.cpu[group].Seconds()*1000, n)})
	}
	return append(all, c.memory()...)
}

// memory is the most that each role has had.
func (c cost) memory() []sample {
	var all []sample
	for _, role := range []string{"serve", "api", "worker"} {
		if mib, ok := c.peak[role]; ok {
			all = append(all, sample{Name: "peak memory: " + role, Unit: "MiB", Value: mib})
		}
	}
	return all
}
