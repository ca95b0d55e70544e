package jobs

import (
	"context"
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage"
)

// A worker that finds a group leased tells the one that holds it.
func TestNudge(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"Redis": func(t *testing.T) string { t.Helper(); return testenv.Redis(t) },
		"embedded": func(t *testing.T) string {
			t.Helper()
			embedded, err := StartEmbeddedRedis()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(embedded.Close)
			return embedded.URL()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := url(t)
			holder, other := openRedis(t, address), openRedis(t, address)
			heard := make(chan struct{}, 1)
			c := newCrew(slots(1), func(ctx context.Context, _ storage.Group, woken <-chan struct{}) {
				select {
				case <-woken:
					heard <- struct{}{}
				case <-ctx.Done():
				}
			})
			c.wake(group("held"))
			ctx, cancel := context.WithCancel(t.Context())
			listened := make(chan struct{})
			go func() { c.hearNudges(ctx, holder); close(listened) }()
			eventually(t, func() bool {
				return other.PubSubNumSub(t.Context(), nudgeChannel).Val()[nudgeChannel] == 1
			}, nil, "the subscription")
			waker, _ := startWaker(t, other)
			waker.nudge(t.Context(), group("another"))
			waker.nudge(t.Context(), group("held"))
			<-heard
			cancel()
			<-listened
			if err := c.stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
