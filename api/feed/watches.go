package feed

import (
	"context"
	"fmt"
	"sync"
	"time"

	"oprelay/storage"
)

const (
	// noteMost is how many changes of watches, and how many of operations, are noted until
	// they are read. Others are dropped: they are hints.
	noteMost = 1000
	// watchesOfMost is how many watches are read at a time of the operations that have moved.
	watchesOfMost = 500
	// gatherFor is how long changes are gathered after others were read.
	gatherFor = 100 * time.Millisecond
)

// watchLog remembers how watches have changed, for those of a tenant's streams that show it.
type watchLog struct {
	*log

	woken chan struct{} // capacity 1

	mu                  sync.Mutex
	readers             int
	watches, operations map[string]struct{} // that have changed since the last read
}

func newWatchLog() *watchLog {
	return &watchLog{
		log: newLog(0), woken: make(chan struct{}, 1),
		watches: map[string]struct{}{}, operations: map[string]struct{}{},
	}
}

// join adds a reader, whose place is returned.
func (l *watchLog) join() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readers++
	return l.end()
}

func (l *watchLog) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readers--
}

// note notes that a watch, or the watches of an operation, have changed. It never blocks.
func (l *watchLog) note(id string, operation bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	noted := l.watches
	if operation {
		noted = l.operations
	}
	if l.readers == 0 || len(noted) >= noteMost {
		return
	}
	noted[id] = struct{}{}
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// take returns what has been noted.
func (l *watchLog) take() (watches, operations []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.watches {
		watches = append(watches, id)
	}
	for id := range l.operations {
		operations = append(operations, id)
	}
	clear(l.watches)
	clear(l.operations)
	return watches, operations
}

// newest is what a reader has not been shown, up to most messages, and its next place. What
// is forgotten is left out.
func (l *watchLog) newest(place int64, most int) (found []entry, next int64, changed <-chan struct{}) {
	found, changed, ok := l.after(place, most)
	if !ok {
		place = l.end()
	}
	if n := len(found); n > 0 {
		place = found[n-1].seq
	}
	return found, place, changed
}

// followWatches reads the watches that have changed, for those who follow them.
func (f *follower) followWatches(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.watches.woken:
		}
		if err := f.readWatches(ctx); err != nil && ctx.Err() == nil {
			f.cfg.Logger.DebugContext(ctx, "watches that have changed were not read; nobody is told", "tenant_id", f.tenantID, "error", err)
		}
		if !wait(ctx, gatherFor) {
			return
		}
	}
}

func (f *follower) readWatches(ctx context.Context) error {
	ids, operations := f.watches.take()
	var changed, moved []storage.Watch
	var err error
	if len(ids) > 0 {
		if changed, err = f.cfg.Store.WatchesOf(ctx, f.tenantID, ids); err != nil {
			return err
		}
	}
	if len(operations) > 0 {
		if moved, err = f.cfg.Store.OpenWatchesOf(ctx, f.tenantID, operations, watchesOfMost); err != nil {
			return err
		}
	}
	var entries []entry
	seq := f.watches.end()
	for _, w := range append(changed, moved...) {
		data, err := f.cfg.Watch(w)
		if err != nil {
			return fmt.Errorf("watch %s: %w", w.ID, err)
		}
		seq++
		entries = append(entries, entry{seq: seq, text: fmt.Appendf(nil, "event: watch\ndata: %s\n\n", data)})
	}
	f.watches.append(entries)
	return nil
}

// wait is false if ctx ends before the time is up.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
