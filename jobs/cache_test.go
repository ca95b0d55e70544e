package jobs

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// What is kept is opened again when its time is over, however often it is used, and
// leaves memory soon after, though nobody asks for it.
func TestCacheForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, opened := newCache[int](30*time.Second), 0
		get := func() int {
			value, err := c.get("a", func() (int, error) { opened++; return opened, nil })
			if err != nil {
				t.Error(err)
			}
			return value
		}
		ctx, cancel := context.WithCancel(t.Context())
		go c.forget(ctx)
		for range 3 {
			if got := get(); got != 1 {
				t.Errorf("opened %d times in half a minute", got)
			}
			wait(ctx, 10*time.Second+time.Millisecond)
		}
		if got := get(); got != 2 {
			t.Errorf("opened %d times after half a minute", got)
		}
		wait(ctx, time.Minute)
		if n := c.all.Metrics().Evictions; c.all.Len() != 0 || n == 0 {
			t.Errorf("%d are kept, %d were dropped", c.all.Len(), n)
		}
		fault := errors.New("no")
		for range 2 {
			if _, err := c.get("b", func() (int, error) { return 0, fault }); !errors.Is(err, fault) {
				t.Errorf("%v of what cannot be opened", err)
			}
		}
		cancel()
	})
}

// A cache is bounded, whatever is asked for.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newCache[int](time.Hour)
	for i := range 3 * maxCached {
		if _, err := c.get(strconv.Itoa(i), func() (int, error) { return i, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.all.Len(); n != maxCached {
		t.Errorf("%d are kept", n)
	}
}
