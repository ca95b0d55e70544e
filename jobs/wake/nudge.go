package wake

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"
)

// nudgeChannel is where a worker that finds a group leased tells the holder that
// more may be due. Nobody depends on it: without a nudge the holder looks again by itself.
const nudgeChannel = "relay:nudges"

// Nudge tells the worker that holds the group's lease, whichever it is.
func (w *Waker) Nudge(ctx context.Context, g Group) {
	ctx, cancel := context.WithTimeout(ctx, redisPatient)
	defer cancel()
	_ = w.redis.Publish(ctx, nudgeChannel, g.Kind+" "+g.ID).Err() // see nudgeChannel
}

// HearNudges passes on what other workers tell, until ctx ends.
func (w *Waker) HearNudges(ctx context.Context, nudge func(Group)) {
	w.listen(ctx, nudgeChannel, func(message string) {
		if kind, id, ok := strings.Cut(message, " "); ok {
			nudge(Group{Kind: kind, ID: id})
		}
	})
}

// listen passes on what is published in a channel, until ctx ends. It subscribes again if the
// subscription is closed: the client closes it if it cannot repair it.
func (w *Waker) listen(ctx context.Context, channel string, hear func(message string)) {
	for {
		hearAll(ctx, w.redis.Subscribe(ctx, channel), hear)
		if !wait(ctx, redisCheck) {
			return
		}
	}
}

// hearAll passes on what comes until the subscription is closed, or ctx ends.
func hearAll(ctx context.Context, subscription *redis.PubSub, hear func(message string)) {
	defer func() { _ = subscription.Close() }()
	messages := subscription.Channel()
	for {
		select {
		case m, open := <-messages:
			if !open {
				return
			}
			hear(m.Payload)
		case <-ctx.Done():
			return
		}
	}
}
