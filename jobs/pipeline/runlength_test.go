package pipeline

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A group that is never done ends when others wait, and else not.
func TestRunEndsWhenOthersWait(t *testing.T) {
	t.Parallel()
	const life = 10 * runLength
	for name, c := range map[string]struct {
		crowded bool
		takes   time.Duration // a request
		began   int           // requests until the run ended
	}{
		"nobody waits": {crowded: false, takes: 900 * time.Millisecond, began: 23},
		"others wait":  {crowded: true, takes: runLength/4 - time.Millisecond, began: 5},
		"hangs":        {crowded: true, takes: life, began: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stop, cancel := context.WithTimeout(t.Context(), life)
				defer cancel()
				p := &pile{due: numbers(1000), limit: 1, takes: c.takes}
				began := time.Now()
				if _, err := p.pipeline().Run(stop, t.Context(), Lease{Crowded: func() bool { return c.crowded }}); err != nil {
					t.Fatal(err)
				}
				if n, took := len(p.done()), time.Since(began); n != c.began || took != time.Duration(c.began)*c.takes {
					t.Errorf("%d requests in %v; want %d in %v", n, took, c.began, time.Duration(c.began)*c.takes)
				}
			})
		})
	}
}

// A run's time begins with the first rows: with a slow database each run
// would else throw away what it had claimed.
func TestRunBeginsWithItsRows(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{recheck + recheck/5, runLength + recheck/5} {
		synctest.Test(t, func(t *testing.T) {
			p := &pile{due: numbers(10), limit: 4, takes: 10 * time.Millisecond}
			p.onClaim = func(int, map[string]bool) error { wait(t.Context(), takes); return nil }
			lease := Lease{Crowded: func() bool { return true }}
			if _, err := p.pipeline().Run(t.Context(), t.Context(), lease); err != nil || len(p.done()) < 4 {
				t.Errorf("with claims of %v: %d were done in a run, %v", takes, len(p.done()), err)
			}
		})
	}
}
