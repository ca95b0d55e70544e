package api

import (
	"context"
	"strconv"
	"sync"
	"time"

	"oprelay/storage"
)

const (
	maxWait = time.Minute
	// lookEvery is how often a waiting request looks at its watch.
	lookEvery = 250 * time.Millisecond
	// maxWaiters bounds the requests of one key that wait at once: 64 of them
	// ask the store 256 times a second.
	maxWaiters = 64
)

// waitOf reads ?wait: a Go duration, or plain seconds. Zero, and none, is not
// to wait.
func waitOf(text *string) (time.Duration, error) {
	if text == nil {
		return 0, nil
	}
	wait, err := time.ParseDuration(*text)
	if err != nil {
		seconds, notSeconds := strconv.ParseFloat(*text, 64)
		if notSeconds != nil {
			return 0, invalid("?wait", "must be a time such as 30s, 1m, 500ms or 30 (seconds), at most 60s")
		}
		wait = time.Duration(min(seconds, 2*maxWait.Seconds()) * float64(time.Second))
	}
	if wait < 0 || wait > maxWait {
		return 0, invalid("?wait", "must be from 0 to 60s")
	}
	return wait, nil
}

// waitForEnd returns the watch when it has left watching, when the time is up,
// or when the server drains, whichever is first. A key that has too many waiting
// already gets errTooManyWaiting: were it answered at once, a client that asks
// again for as long as the watch is watching would spin.
func (s *Server) waitForEnd(ctx context.Context, key storage.Key, id string, wait time.Duration) (storage.Watch, error) {
	found, err := s.store.Watch(ctx, key.TenantID, id)
	if err != nil || wait == 0 || found.Status != storage.WatchWatching {
		return found, err
	}
	if !s.waiters.enter(key.ID) {
		return storage.Watch{}, errTooManyWaiting
	}
	defer s.waiters.leave(key.ID)
	up := time.NewTimer(wait)
	defer up.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for last := false; !last && found.Status == storage.WatchWatching; {
		select {
		case <-ctx.Done():
			return found, ctx.Err()
		case <-s.draining:
			last = true
		case <-up.C:
			last = true
		case <-look.C:
		}
		if found, err = s.store.Watch(ctx, key.TenantID, id); err != nil {
			return found, err
		}
	}
	return found, nil
}

// waiters counts the requests that wait, by key. The zero value is ready.
type waiters struct {
	mu     sync.Mutex
	counts map[string]int
}

// enter is false if the key has too many waiting already.
func (w *waiters) enter(keyID string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts[keyID] >= maxWaiters {
		return false
	}
	if w.counts == nil {
		w.counts = make(map[string]int)
	}
	w.counts[keyID]++
	return true
}

func (w *waiters) leave(keyID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts[keyID]--; w.counts[keyID] == 0 {
		delete(w.counts, keyID)
	}
}
