//go:build !chaos

package main

import "time"

// minRetention is the shortest time for which what has ended can be kept.
const minRetention = time.Minute

// wallClock is the machine's clock. A build for the fault tests has one that can be
// set: see clock_chaos.go.
func wallClock() func() time.Time { return time.Now }
