package feed

import "sync"

// What a log remembers at most; whoever is further behind reads the database.
const (
	rememberMost  = 512
	rememberBytes = 1 << 20
)

// entry is one message, as it is sent to all.
type entry struct {
	seq  int64
	kind string // an event's type; "" for a watch
	text []byte
}

// log remembers the newest messages of a tenant, in order.
type log struct {
	mu      sync.Mutex
	entries []entry
	bytes   int
	begin   int64         // it remembers all from after here
	last    int64         // up to here
	changed chan struct{} // closed with the next message
}

func newLog(last int64) *log { return &log{begin: last, last: last, changed: make(chan struct{})} }

// append adds messages, and forgets the oldest beyond the bounds.
func (l *log) append(added []entry) {
	if len(added) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, added...)
	for _, e := range added {
		l.bytes += len(e.text)
	}
	old := 0
	for ; len(l.entries)-old > rememberMost || l.bytes > rememberBytes; old++ {
		l.bytes -= len(l.entries[old].text)
		l.begin = l.entries[old].seq
	}
	clear(l.entries[:old]) // for the garbage collector, until append moves the others
	l.entries = l.entries[old:]
	l.last = added[len(added)-1].seq
	close(l.changed)
	l.changed = make(chan struct{})
}

// skip forgets all, and goes on after a place.
func (l *log) skip(place int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.bytes, l.begin, l.last = nil, 0, place, place
	close(l.changed)
	l.changed = make(chan struct{})
}

// end is the place after the newest message.
func (l *log) end() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// after returns up to most messages after a place, and what is closed when there are more. It
// is not ok if some of them are forgotten.
func (l *log) after(place int64, most int) (found []entry, changed <-chan struct{}, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if place < l.begin {
		return nil, l.changed, false
	}
	i := len(l.entries)
	for i > 0 && l.entries[i-1].seq > place {
		i--
	}
	return append(found, l.entries[i:min(i+most, len(l.entries))]...), l.changed, true
}
