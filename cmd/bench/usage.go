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

// processCPU is what the process has used, and its children that ended; with family
// those that run too, as PostgreSQL's do.
func processCPU(pid int, family bool) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// proc_pid_stat(5): the name, in parentheses, may hold anything. utime, stime,
	// cutime and cstime are fields 14 to 17; the first after the name is the third.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	ticks := 0
	for _, field := range fields[11:15] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	used := time.Duration(ticks) * time.Second / hertz
	if !family {
		return used, nil
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	for child := range strings.FieldsSeq(string(children)) {
		n, err := strconv.Atoi(child)
		if err != nil {
			return 0, err
		}
		its, err := processCPU(n, false)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it has ended since: its parent has its time
			return 0, err
		}
		used += its
	}
	return used, nil
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

// residentMiB is the memory that the process has now.
func residentMiB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib / (1 << 10), err
		}
	}
	return 0, fmt.Errorf("process %d has no memory", pid)
}
