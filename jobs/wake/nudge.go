package wake

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"
)

// nudgeChannel is where workers hear that more of a group may be due. Nobody depends on it:
// without it the holder of the lease looks again by itself, and a task waits in its queue.
const nudgeChannel = "relay:nudges"

// wakeUpMark follows the group in what tells of a wake-up.
const wakeUpMark = " woken"

// Nudge tells the worker that holds the group's lease, whichever it is.
func (w *Waker) Nudge(ctx context.Context, g Group) { w.tellWorkers(ctx, g.Kind+" "+g.ID) }

// tellOfWakeUp tells all workers, for servers look at their queues only so often.
func (w *Waker) tellOfWakeUp(ctx context.Context, g Group) {
	w.tellWorkers(ctx, g.Kind+" "+g.ID+wakeUpMark)
}

func (w *Waker) tellWorkers(ctx context.Context, message string) {
	ctx, cancel := context.WithTimeout(ctx, redisPatient)
	defer cancel()
	_ = w.redis.Publish(ctx, nudgeChannel, message).Err() // see nudgeChannel
}

// HearNudges passes on what is told of groups, until ctx ends: that whoever holds the lease is
// to look again, or with wakeUp that somebody is to begin.
func (w *Waker) HearNudges(ctx context.Context, hear func(g Group, wakeUp bool)) {
	w.listen(ctx, nudgeChannel, func(message string) {
		message, wakeUp := strings.CutSuffix(message, wakeUpMark)
		if kind, id, ok := strings.Cut(message, " "); ok {
			hear(Group{Kind: kind, ID: id}, wakeUp)
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
