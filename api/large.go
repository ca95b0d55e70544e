package api

import (
	"context"
	"sync"
)

const (
	// smallBody is what a body may have in bytes to be none of the large ones: a
	// watch, or some sixty. It is judged in less time than the scheduler lets a
	// goroutine run, so few of them are half judged at a time.
	smallBody = 16 << 10
	// maxLarge bounds the requests of one key whose large bodies are held at once.
	// That of all 1,000 watches takes up to 1 MiB, and ten times as much when parsed.
	maxLarge = 4
	// maxTurns bounds the large bodies that are parsed or judged at once, of all
	// keys: where everything is wrong that takes some tens of MB for a moment.
	maxTurns = 2
)

// large lets the requests with large bodies wait before these are read, by key: a key
// that sends many, or sends slowly, holds up itself. The zero value is ready.
type large struct {
	mu     sync.Mutex
	places map[string]*places
}

// places are those of one key.
type places struct {
	taken chan struct{} // holds one for each request inside
	users int           // inside or waiting
}

// enter waits for a place, before the body is read, in the order of arrival. After nil the caller owes a leave.
func (l *large) enter(ctx context.Context, keyID string) error {
	l.mu.Lock()
	p := l.places[keyID]
	if p == nil {
		p = &places{taken: make(chan struct{}, maxLarge)}
		if l.places == nil {
			l.places = make(map[string]*places)
		}
		l.places[keyID] = p
	}
	p.users++
	l.mu.Unlock()
	select {
	case p.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		l.forget(keyID)
		return ctx.Err()
	}
}

// leave gives a place up.
func (l *large) leave(keyID string) {
	l.mu.Lock()
	<-l.places[keyID].taken // which is not empty: the caller's is in it
	l.mu.Unlock()
	l.forget(keyID)
}

func (l *large) forget(keyID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.places[keyID]
	if p.users--; p.users == 0 {
		delete(l.places, keyID)
	}
}

// turns holds one for each large body that is parsed or judged right now. Both only
// compute, so a turn is short. Nil turns are for whoever is alone: there is no waiting.
type turns chan struct{}

// take waits for a turn for a body of so many bytes; what it returns ends the turn.
func (t turns) take(size int) (end func()) {
	if t == nil || size <= smallBody {
		return func() {}
	}
	t <- struct{}{}
	return func() { <-t }
}
