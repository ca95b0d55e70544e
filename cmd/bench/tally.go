package main

import (
	"context"
	"slices"
)

// tally is a number that grows, and that others wait for. Its owner locks it.
type tally struct {
	n       int
	waiters []waiter
}

type waiter struct {
	n       int
	reached chan struct{}
}

// add counts one more.
func (t *tally) add() {
	t.n++
	if len(t.waiters) == 0 {
		return
	}
	t.waiters = slices.DeleteFunc(t.waiters, func(w waiter) bool {
		if t.n < w.n {
			return false
		}
		close(w.reached)
		return true
	})
}

// reach is closed once the tally has come to n.
func (t *tally) reach(n int) <-chan struct{} {
	w := waiter{n, make(chan struct{})}
	if t.n >= n {
		close(w.reached)
	} else {
		t.waiters = append(t.waiters, w)
	}
	return w.reached
}

// await waits for it, or for the end of ctx.
func await(ctx context.Context, reached <-chan struct{}) error {
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
