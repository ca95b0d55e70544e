package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// A key waits for its own large bodies, in order, and for nobody else's.
func TestLargeBodiesWaitForThoseOfTheirKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l large
		enter := func(ctx context.Context, key string) <-chan error {
			entered := make(chan error, 1)
			go func() { entered <- l.enter(ctx, key) }()
			synctest.Wait()
			return entered
		}
		for range maxLarge {
			if err := <-enter(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		canceled, cancel := context.WithCancel(t.Context())
		gone, waiting := enter(canceled, "a"), enter(t.Context(), "a")
		if len(gone)+len(waiting) > 0 {
			t.Fatalf("more than %d are inside", maxLarge)
		}
		if err := <-enter(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("who hung up gets %v", err)
		}
		l.leave("a")
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		for range maxLarge {
			l.leave("a")
		}
		l.leave("b")
		if len(l.places) > 0 {
			t.Errorf("%d keys are remembered", len(l.places))
		}
	})
}

func TestLargeBodiesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := make(turns, maxTurns)
		end := turns.take(smallBody + 1)
		for range maxTurns - 1 {
			turns.take(smallBody + 1)
		}
		turns.take(smallBody)() // does not wait
		taken := make(chan struct{})
		go func() {
			turns.take(smallBody + 1)
			close(taken)
		}()
		synctest.Wait()
		select {
		case <-taken:
			t.Errorf("more than %d have a turn", maxTurns)
		default:
		}
		end()
		<-taken
	})
}
