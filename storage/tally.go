package storage

import (
	"maps"
	"sync"
)

// Tally is what the commits of this process have come to since it began. A commit
// whose outcome is unknown counts for nothing.
type Tally struct {
	Registered int64            // watches
	Ended      map[string]int64 // watches, by what they became; every way to end is there
}

// Tally counts each watch once, after the commit that made it, or ended it. It
// asks the database nothing.
func (s *Store) Tally() Tally { return s.db.tally.read() }

// tally adds up what transactions did.
type tally struct {
	mu         sync.Mutex
	registered int64
	ended      map[string]int64
}

func newTally() *tally {
	return &tally{ended: map[string]int64{
		WatchCompleted: 0, WatchFailed: 0, WatchExpired: 0, WatchUnobservable: 0, WatchCanceled: 0,
	}}
}

func (t *tally) read() Tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Tally{t.registered, maps.Clone(t.ended)}
}

// add counts a transaction, which is committed.
func (t *tally) add(tx *transaction) {
	if tx.registered == 0 && len(tx.ended) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.registered += int64(tx.registered)
	for _, status := range tx.ended {
		t.ended[status]++
	}
}
