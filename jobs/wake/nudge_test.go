package wake

import (
	"context"
	"crypto/rand"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
)

// breaking is a client whose first subscription is closed under whoever has it.
type breaking struct {
	redis.UniversalClient

	subscribed atomic.Int64
}

// Subscribe implements redis.UniversalClient.
func (b *breaking) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	subscription := b.UniversalClient.Subscribe(ctx, channels...)
	if b.subscribed.Add(1) == 1 {
		_ = subscription.Close()
	}
	return subscription
}

// A subscription that is closed is replaced, and then heard of again; without haste.
func TestNudgeAfterTheSubscriptionIsClosed(t *testing.T) {
	t.Parallel()
	address := testenv.Redis(t)
	holder := &breaking{UniversalClient: openRedis(t, address)}
	hearsNudges(t, holder, openRedis(t, address))
	if n := holder.subscribed.Load(); n != 2 {
		t.Errorf("subscribed %d times", n)
	}
}

// A worker that finds a group leased tells the one that holds it. Of a wake-up all are told.
func TestNudge(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"Redis":    func(t *testing.T) string { t.Helper(); return testenv.Redis(t) },
		"embedded": embedded,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := url(t)
			hearsNudges(t, openRedis(t, address), openRedis(t, address))
		})
	}
}

func hearsNudges(t *testing.T, holder, other redis.UniversalClient) {
	t.Helper()
	heard, listened := make(chan bool), make(chan struct{})
	mine := group(rand.Text()) // others use this Redis too
	ctx, cancel := context.WithCancel(t.Context())
	listener, _ := startWaker(t, holder)
	go func() {
		listener.HearNudges(ctx, func(g Group, wakeUp bool) {
			if g == mine {
				heard <- wakeUp
			}
		})
		close(listened)
	}()
	eventually(t, func() bool {
		return other.PubSubNumSub(t.Context(), nudgeChannel).Val()[nudgeChannel] == 1
	}, "the subscription")
	waker, _ := startWaker(t, other)
	waker.Nudge(t.Context(), group("another"))
	waker.Nudge(t.Context(), mine)
	waker.Wake(mine)
	if nudge, wakeUp := <-heard, <-heard; nudge || !wakeUp {
		t.Errorf("a nudge came as a wake-up: %v; a wake-up did: %v", nudge, wakeUp)
	}
	cancel()
	<-listened
}
