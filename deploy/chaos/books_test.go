package chaos

import (
	"slices"
	"sync"
	"time"

	"oprelay/api/client"
)

// entry is one watch whose outcome is known.
type entry struct {
	operation    string
	destinations []string // the paths of its receivers
	status       client.WatchStatus
	upstream     *string   // the error that the operation fails with
	asked, over  time.Time // when it was asked for, and when its operation has ended
	watch        string    // its id, once registered
	told         time.Time // when the last of its destinations accepted it
	missing      int       // destinations that have not
}

// books are what was asked of the relay.
type books struct {
	mu      sync.Mutex
	entries map[string]*entry // by operation
	refused []string          // operations that were answered 503 and not asked for again
	refusal int               // answers of 503
	// unanswered is what befell each registration that failed without an answer, or
	// had none in time.
	unanswered []error
	changed    chan struct{} // closed and replaced whenever an entry is settled or added
}

func newBooks() *books { return &books{entries: map[string]*entry{}, changed: make(chan struct{})} }

func (b *books) enter(entries ...*entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		e.missing = len(e.destinations)
		b.entries[e.operation] = e
	}
}

// strike takes entries out that the relay refused to take.
func (b *books) strike(entries ...*entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		delete(b.entries, e.operation)
		b.refused = append(b.refused, e.operation)
	}
	b.notify()
}

// told notes that one more destination of the operation has accepted it.
func (b *books) told(operation string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[operation]
	if e == nil { // judged by the audit
		return
	}
	if e.missing--; e.missing == 0 {
		e.told = time.Now()
		b.notify()
	}
}

func (b *books) notify() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// open is how many entries that were asked for until then are not settled, and a
// channel that is closed when there may be fewer.
func (b *books) open(until time.Time) (n int, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.missing > 0 && !e.asked.After(until) {
			n++
		}
	}
	return n, b.changed
}

func (b *books) all() []entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]entry, 0, len(b.entries))
	for _, e := range b.entries {
		all = append(all, *e)
	}
	return all
}

// recovery is the longest that a watch was held up by what went wrong.
func (b *books) recovery(marks []time.Time) (longest time.Duration) {
	for _, e := range b.all() {
		longest = max(longest, e.heldUp(marks))
	}
	return longest
}

// heldUp is how long the watch went untold after the first mark since it had been
// asked for, or after the end of its operation if that came later. A mark is a moment
// from which on the relay had all it needs; marks are in order. Those that came later
// excuse nothing: what one kill holds up must not last until after the next. What was
// asked for after the last mark counts from then.
func (e entry) heldUp(marks []time.Time) time.Duration {
	since := e.asked
	if i := slices.IndexFunc(marks, e.asked.Before); i >= 0 {
		since = marks[i]
	}
	if since.Before(e.over) {
		since = e.over
	}
	return max(e.told.Sub(since), 0)
}
