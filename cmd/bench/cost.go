package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
)

// meter knows what the relay and its stores had used when it was started.
type meter struct {
	relay  *relay
	cpu    cpu
	counts storeCounts
}

// cost is what was used meanwhile, and the most memory that each role ever had.
type cost struct {
	cpu      cpu
	counts   storeCounts
	peak     map[string]float64 // MiB, of the biggest process of a role
	embedded bool               // without stores of its own
}

// meter starts one.
func (r *relay) meter(ctx context.Context) (m meter, err error) {
	m.relay = r
	if m.cpu, err = r.usage(); err == nil && !r.shape.embedded {
		m.counts, err = r.b.counts(ctx)
	}
	return m, err
}

// cost is what was used since the meter was started, or was read last.
func (m *meter) cost(ctx context.Context) (cost, error) {
	now, err := m.relay.meter(ctx)
	if err != nil {
		return cost{}, err
	}
	peak, err := m.relay.peaks()
	c := cost{
		cpu: now.cpu.since(m.cpu), counts: now.counts.since(m.counts), peak: peak, embedded: m.relay.shape.embedded,
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

// hertz is the unit of times in /proc: USER_HZ, 100 on all of Linux's ports.
const hertz = 100

// cpu is processor time, by the name of a group of processes.
type cpu map[string]time.Duration

// since is what was used from then to now.
func (c cpu) since(then cpu) cpu {
	used := cpu{}
	for name, d := range c {
		used[name] = d - then[name]
	}
	return used
}

// sum is that of some groups.
func (c cpu) sum(groups ...string) (sum time.Duration) {
	for _, group := range groups {
		sum += c[group]
	}
	return sum
}

// times are a process's: its own and, of the children that it has waited for, theirs.
type times struct{ own, reaped time.Duration }

// processCPU is what the process has used, and its children that ended; with family
// those that run too, as PostgreSQL's do.
func processCPU(pid int, family bool) (time.Duration, error) {
	if family {
		return familyCPU(pid, processTimes, childrenOf)
	}
	t, err := processTimes(pid)
	return t.own + t.reaped, err
}

// familyCPU is what a process and its children have used. The time of a child moves
// to its parent when it has ended: where that happened meanwhile, which would lose
// the child or count it twice, all is read again.
func familyCPU(pid int, timesOf func(int) (times, error), childrenOf func(int) ([]int, error)) (time.Duration, error) {
	before, err := timesOf(pid)
	for err == nil {
		var children []int
		if children, err = childrenOf(pid); err != nil {
			break
		}
		var running time.Duration
		for _, child := range children {
			its, err := timesOf(child)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // it has ended, maybe without having used a tick
				return 0, err
			}
			running += its.own + its.reaped
		}
		var after times
		if after, err = timesOf(pid); err == nil && after.reaped == before.reaped {
			return after.own + after.reaped + running, nil
		}
		before = after
	}
	return 0, err
}

func processTimes(pid int) (times, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return times{}, err
	}
	// proc_pid_stat(5): the name, in parentheses, may hold anything. utime, stime,
	// cutime and cstime are fields 14 to 17; the first after the name is the third.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	var ticks [4]time.Duration
	for i, field := range fields[11:15] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return times{}, err
		}
		ticks[i] = time.Duration(n) * time.Second / hertz
	}
	return times{own: ticks[0] + ticks[1], reaped: ticks[2] + ticks[3]}, nil
}

// childrenOf are the process ids of those that run.
func childrenOf(pid int) ([]int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	var all []int
	for field := range strings.FieldsSeq(string(raw)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		all = append(all, child)
	}
	return all, nil
}

// peakMiB is the most memory that the process has had.
func peakMiB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib / (1 << 10), err
		}
	}
	return 0, fmt.Errorf("process %d has no memory", pid)
}

// storeCounts are counters of the stores, from their start.
type storeCounts struct {
	// RedisCommands are those processed, what scripts call included.
	RedisCommands float64
	// Commits are transactions of PostgreSQL that wrote: those that were given a
	// number. xact_commit counts those that only read as well, which cost no
	// write-ahead log and no wait for the disk.
	Commits float64
}

func (c storeCounts) since(then storeCounts) storeCounts {
	return storeCounts{RedisCommands: c.RedisCommands - then.RedisCommands, Commits: c.Commits - then.Commits}
}

// counts asks both stores.
func (b *bench) counts(ctx context.Context) (c storeCounts, err error) {
	if c.RedisCommands, err = b.redisNumber(ctx, "stats", "total_commands_processed"); err != nil {
		return c, err
	}
	number, err := testenv.Query(ctx, b.postgres.URL, "SELECT pg_snapshot_xmax(pg_current_snapshot())")
	if err == nil {
		c.Commits, err = strconv.ParseFloat(number, 64)
	}
	return c, err
}

// redisNumber is one number of what Redis tells about itself.
func (b *bench) redisNumber(ctx context.Context, section, name string) (float64, error) {
	value, err := b.redisInfo(ctx, section, name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(value, 64)
}

// redisInfo is one thing that Redis tells about itself.
func (b *bench) redisInfo(ctx context.Context, section, name string) (string, error) {
	info, err := b.redisClient.Info(ctx, section).Result()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("the info of Redis has no %s", name)
}

func openRedis(url string) (*redis.Client, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return redis.NewClient(options), nil
}
