//go:build chaos

package main

import (
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// clockVariable names the file that says how far the clock has been stepped: a
	// duration such as 1h or -1h. While there is none, the clock is the machine's.
	clockVariable = "RELAY_CHAOS_CLOCK"
	// clockReread is how soon a step is noticed.
	clockReread = 50 * time.Millisecond
	// minRetention is short, so that retention runs beside the faults.
	minRetention = time.Second
)

// wallClock is the machine's clock, stepped by what the file says.
func wallClock() func() time.Time {
	path := os.Getenv(clockVariable)
	if path == "" {
		return time.Now
	}
	return (&steppedClock{path: path}).now
}

// steppedClock is a wall clock that somebody sets.
type steppedClock struct {
	path string

	mu   sync.Mutex
	step time.Duration
	read time.Time
}

// now has no monotonic reading: a step changes the wall clock alone. A file that cannot
// be read, or is half written, changes nothing.
func (c *steppedClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) >= clockReread {
		c.read = time.Now()
		if text, err := os.ReadFile(c.path); err == nil {
			if step, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil {
				c.step = step
			}
		}
	}
	return time.Now().Round(0).Add(c.step)
}
