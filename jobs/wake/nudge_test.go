package wake

import (
	"context"
	"crypto/rand"
	"sync"
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
	nudged, woken := group(rand.Text()), group(rand.Text()) // others use this Redis too
	var asWakeUp sync.Map                                   // of each group that was heard of
	listened := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	listener, _ := startWaker(t, holder)
	go func() {
		listener.HearNudges(ctx, func(g Group, wakeUp bool) { asWakeUp.Store(g, wakeUp) })
		close(listened)
	}()
	waker, _ := startWaker(t, other)
	for g, tell := range map[Group]func(){
		nudged: func() { waker.Nudge(t.Context(), nudged) }, woken: func() { waker.Wake(woken) },
	} {
		eventually(t, func() bool {
			tell() // again and again, as it may be lost
			_, heard := asWakeUp.Load(g)
			return heard
		}, "what was told of "+g.ID)
		if wakeUp, _ := asWakeUp.Load(g); wakeUp != (g == woken) {
			t.Errorf("heard as a wake-up: %v", wakeUp)
		}
	}
	cancel()
	<-listened
}
