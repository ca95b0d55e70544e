package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

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

// machineCPU is what all processors did, since the machine was started.
func machineCPU() (cpu, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	fields := strings.Fields(line)
	used := cpu{}
	for i, name := range []string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"} {
		ticks, err := strconv.Atoi(fields[i+1])
		if err != nil {
			return nil, err
		}
		used[name] = time.Duration(ticks) * time.Second / hertz
	}
	return used, nil
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
