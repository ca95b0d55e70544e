//go:build !chaos

package main

import "time"

// wallClock is the machine's. A build for the fault tests has another, whose steps
// are told to it: see clock_chaos.go.
func wallClock() func() time.Time { return time.Now }
