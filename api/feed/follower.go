package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"oprelay/storage"
)

const (
	// catchUpMost is how many events a reader reads at a time who is behind.
	catchUpMost = 50
	// readAtOnce is how many events a follower reads at a time.
	readAtOnce = 200
	// retryAfter is how long a follower waits after an error.
	retryAfter = time.Second
)

// follower reads a tenant's new events for all its streams.
type follower struct {
	cfg      Config
	tenantID string
	events   *log
	watches  *watchLog
	woken    chan struct{} // capacity 1
	stop     context.CancelFunc
	streams  int // by the hub's mutex
}

// newFollower starts a follower behind the event with the seq end.
func newFollower(cfg Config, tenantID string, end int64) *follower {
	ctx, stop := context.WithCancel(context.Background())
	f := &follower{
		cfg: cfg, tenantID: tenantID, events: newLog(end), watches: newWatchLog(),
		woken: make(chan struct{}, 1), stop: stop,
	}
	f.wake() // for what was committed since end was read
	go f.follow(ctx)
	go f.followWatches(ctx)
	return f
}

// wake has the follower look. It never blocks.
func (f *follower) wake() {
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

func (f *follower) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.woken:
		}
		for more := true; more; {
			var err error
			if more, err = f.readEvents(ctx); err != nil && !f.pause(ctx, err) {
				return
			}
		}
	}
}

// pause waits after an error; false when ctx has ended. What was not read is found when the
// hub looks next.
func (f *follower) pause(ctx context.Context, err error) bool {
	if ctx.Err() == nil && !storage.Unavailable(err) {
		f.cfg.Logger.ErrorContext(ctx, "events were not read for their streams; they will be", "tenant_id", f.tenantID, "error", err)
	}
	return wait(ctx, retryAfter)
}

// readEvents remembers the next events, and says whether there are more.
func (f *follower) readEvents(ctx context.Context) (more bool, err error) {
	events, err := f.cfg.Store.EventsFrom(ctx, storage.FeedPart{TenantID: f.tenantID, After: f.events.end()}, readAtOnce)
	if gone := (*storage.FeedGoneError)(nil); errors.As(err, &gone) { // so its streams end, see catchUp
		place, err := f.cfg.Store.FeedPlace(ctx, f.tenantID, "")
		if err == nil {
			f.events.skip(place)
		}
		return true, err
	}
	if err != nil {
		return false, err
	}
	entries, err := f.render(events)
	if err != nil {
		return false, err
	}
	f.events.append(entries)
	return len(events) == readAtOnce, nil
}

// catchUp reads events that the follower does not remember, for one reader, and says up to
// where there are no others of the part.
func (f *follower) catchUp(ctx context.Context, part storage.FeedPart) (found []entry, place int64, err error) {
	end := f.events.end() // all up to here can be read
	events, err := f.cfg.Store.EventsFrom(ctx, part, catchUpMost)
	if err != nil {
		return nil, 0, err
	}
	place = part.After
	if n := len(events); n > 0 {
		place = events[n-1].Seq
	}
	if len(events) < catchUpMost {
		place = max(place, end)
	}
	found, err = f.render(events)
	return found, place, err
}

func (f *follower) render(events []storage.Event) ([]entry, error) {
	entries := make([]entry, len(events))
	for i, e := range events {
		data, err := f.cfg.Event(e)
		if err != nil {
			return nil, fmt.Errorf("event %s: %w", e.ID, err)
		}
		entries[i] = entry{e.Seq, e.Type, fmt.Appendf(nil, "id: %s\nevent: %s\ndata: %s\n\n", e.ID, e.Type, data)}
	}
	return entries, nil
}
