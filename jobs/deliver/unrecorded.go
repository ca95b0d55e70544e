package deliver

import (
	"context"
	"sync"
	"time"
)

const (
	// unrecordedMost is how many messages of a process may be sent and not recorded: so many
	// are sent twice if it is killed.
	unrecordedMost = 64
	// answersSoon is how long a message that is under way keeps its place. It lets 6,400 a
	// second begin whose receivers are slower, which is more than a processor sends.
	answersSoon = 10 * time.Millisecond
)

// unrecorded bounds what all runs of a process have sent and not recorded. A message takes a
// place before it is sent, and gives it up when its result is recorded. One that is not
// answered soon gives it up too, so that no receiver holds up the others. When it is answered
// after all it counts again, beyond the places if all are taken: then nothing else begins.
// So only what slow receivers have under way comes on top.
type unrecorded struct {
	soon   time.Duration
	places chan struct{}

	mu     sync.Mutex
	beyond int // the places
}

func newUnrecorded(most int, soon time.Duration) *unrecorded {
	return &unrecorded{soon: soon, places: make(chan struct{}, most)}
}

// place is that of one message.
type place struct {
	of   *unrecorded
	slow *time.Timer
	free bool
}

// take waits for a place; nil if ctx ends first.
func (u *unrecorded) take(ctx context.Context) *place {
	select {
	case u.places <- struct{}{}:
		return &place{of: u, slow: time.AfterFunc(u.soon, u.less)}
	case <-ctx.Done():
		return nil
	}
}

// answered has the place count until the result is recorded, however long the answer took.
func (p *place) answered() {
	if !p.slow.Stop() {
		p.of.more()
	}
}

// recorded gives the place up, at the first call.
func (p *place) recorded() {
	if !p.free {
		p.free = true
		p.of.less()
	}
}

func (u *unrecorded) more() {
	u.mu.Lock()
	defer u.mu.Unlock()
	select {
	case u.places <- struct{}{}:
	default:
		u.beyond++
	}
}

func (u *unrecorded) less() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.beyond > 0 {
		u.beyond--
		return
	}
	<-u.places
}
