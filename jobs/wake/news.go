package wake

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"
)

const (
	// newsChannel is where processes tell each other what their commits have changed. Nobody
	// depends on it: who misses news looks for itself.
	newsChannel = "relay:news"
	// newsEvery is how often a process tells at most: what it commits meanwhile it tells together.
	newsEvery = 10 * time.Millisecond
	// newsMost is how many items are told together before hints are dropped.
	newsMost = 512
	// hintsKey is there while some process wants hints, which are many: it says so every
	// redisCheck, and is forgotten after hintsFor.
	hintsKey = "relay:news:hints"
	hintsFor = 5 * time.Second
)

// news is what is to be told.
type news struct {
	sender string // who hears its own news drops them

	mu    sync.Mutex
	items map[string]struct{}
	ready chan struct{} // capacity 1
}

func newNews() *news {
	return &news{sender: rand.Text(), items: map[string]struct{}{}, ready: make(chan struct{}, 1)}
}

// Tell tells the other processes that hear news of these items, which are in one line each,
// and of hints unless they are many (see Hinted). It never blocks. Any may be lost, and is
// told once for several times.
func (w *Waker) Tell(items, hints []string) {
	if !w.Up() {
		return
	}
	n := w.news
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, item := range items {
		n.items[item] = struct{}{}
	}
	for _, hint := range hints {
		if len(n.items) >= newsMost {
			break
		}
		n.items[hint] = struct{}{}
	}
	select {
	case n.ready <- struct{}{}:
	default:
	}
}

// take returns a message of what is to be told.
func (n *news) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var message strings.Builder
	message.WriteString(n.sender)
	for item := range n.items {
		message.WriteString("\n" + item)
	}
	clear(n.items)
	return message.String()
}

// tellNews publishes what is to be told, until ctx ends.
func (w *Waker) tellNews(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.news.ready:
		}
		callCtx, cancel := context.WithTimeout(ctx, redisPatient)
		_ = w.redis.Publish(callCtx, newsChannel, w.news.take()).Err() // see newsChannel
		cancel()
		if !wait(ctx, newsEvery) {
			return
		}
	}
}

// Hinted says whether some process wants to be told of hints, or did some seconds ago.
func (w *Waker) Hinted() bool { return w.hinted.Load() }

// noteHinted finds out whether some process wants hints.
func (w *Waker) noteHinted(ctx context.Context) error {
	wanted, err := w.redis.Exists(ctx, hintsKey).Result()
	w.hinted.Store(err == nil && wanted > 0)
	return err
}

// askForHints says that this process wants hints while it does, until ctx ends.
func (w *Waker) askForHints(ctx context.Context, wanted func() bool) {
	for {
		if wanted() && w.Up() {
			callCtx, cancel := context.WithTimeout(ctx, redisPatient)
			_ = w.redis.Set(callCtx, hintsKey, "wanted", hintsFor).Err() // said again soon
			cancel()
		}
		if !wait(ctx, redisCheck) {
			return
		}
	}
}

// HearNews passes on what other processes tell, until ctx ends. They tell no hints unless
// some process wants them.
func (w *Waker) HearNews(ctx context.Context, wantsHints func() bool, hear func(items []string)) {
	var asking sync.WaitGroup
	asking.Go(func() { w.askForHints(ctx, wantsHints) })
	defer asking.Wait()
	w.listen(ctx, newsChannel, func(message string) {
		sender, items, _ := strings.Cut(message, "\n")
		if sender != w.news.sender {
			hear(strings.Split(items, "\n"))
		}
	})
}
