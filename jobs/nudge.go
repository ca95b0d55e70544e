package jobs

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"

	"oprelay/storage"
)

// nudgeChannel is where a worker that finds a group leased tells its holder that
// more may be due. Nobody depends on it: a nudge that is lost costs what is left of
// the holder's linger, or the time until it looks again.
const nudgeChannel = "relay:nudges"

// nudge tells the worker that holds the group's lease, whichever it is.
func (w *Waker) nudge(ctx context.Context, g storage.Group) {
	ctx, cancel := context.WithTimeout(ctx, redisPatient)
	defer cancel()
	_ = w.redis.Publish(ctx, nudgeChannel, string(g.Kind)+" "+g.ID).Err() // see nudgeChannel
}

// hearNudges passes on what other workers tell, until ctx ends.
func (c *crew) hearNudges(ctx context.Context, client redis.UniversalClient) {
	subscription := client.Subscribe(ctx, nudgeChannel)
	defer func() { _ = subscription.Close() }()
	nudges := subscription.Channel()
	for {
		select {
		case m := <-nudges:
			if kind, id, ok := strings.Cut(m.Payload, " "); ok {
				c.nudge(storage.Group{Kind: storage.GroupKind(kind), ID: id})
			}
		case <-ctx.Done():
			return
		}
	}
}
