// Package feed lets any number of readers follow the feeds of their tenants as server-sent
// events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
//
// One follower for each tenant with readers reads new events once, and renders them once for
// all of these. A reader has a place in the feed and no queue: what it has not read yet is in
// the follower's memory, which is bounded, or in the database. Wake-ups only make a follower
// look at once; it looks every second in any case, so none has to arrive.
package feed

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oprelay/storage"
)

const (
	// MaxStreams is how many streams a holder may have open in one process.
	MaxStreams = 100
	// lookEvery is how often followers look for what nobody told them of, and whether the
	// holders of streams may still read.
	lookEvery = time.Second
	// catchingUp is how many readers at a time read the database for what their follower does
	// not remember.
	catchingUp = 4
)

var (
	// ErrTooMany says that a holder has as many streams open as it may.
	ErrTooMany = errors.New("too many streams")
	// ErrDrained says that the process is about to stop.
	ErrDrained = errors.New("no more streams")
)

// Config is what a Hub is made of.
type Config struct {
	Store  *storage.Store
	Logger *slog.Logger
	// Event and Watch make the data of messages: JSON in one line.
	Event func(storage.Event) ([]byte, error)
	Watch func(storage.Watch) ([]byte, error)
	// Valid returns those of the holders who may still read; the streams of the others end.
	Valid   func(ctx context.Context, holders []string) ([]string, error)
	Metrics prometheus.Registerer // nil for none
}

// Hub has the followers and the streams of a process.
type Hub struct {
	cfg     Config
	catchUp chan struct{} // holds one for each reader who catches up
	open    prometheus.Gauge

	mu         sync.Mutex
	readWithin time.Duration        // readWithin, but in tests
	followers  map[string]*follower // of tenants with streams
	streams    map[*Stream]struct{}
	held       map[string]int     // streams by holder
	watching   int                // streams that show progress
	rest       context.CancelFunc // ends looking, while there are no streams; nil then
	drained    bool
}

// New makes a Hub. It does nothing while there are no streams.
func New(cfg Config) (*Hub, error) {
	h := &Hub{
		cfg: cfg, readWithin: readWithin, catchUp: make(chan struct{}, catchingUp), followers: map[string]*follower{},
		streams: map[*Stream]struct{}{}, held: map[string]int{},
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "relay_event_streams", Help: "Streams of events that are open in this process.",
		}),
	}
	if cfg.Metrics == nil {
		return h, nil
	}
	return h, cfg.Metrics.Register(h.open)
}

// Changed tells of what a commit has changed, of this process or another. It never blocks.
func (h *Hub) Changed(c storage.Changes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.followers) == 0 {
		return
	}
	for _, tenantID := range c.Events {
		if f := h.followers[tenantID]; f != nil {
			f.wake()
		}
	}
	for _, w := range c.Watches {
		if f := h.followers[w.TenantID]; f != nil {
			f.watches.note(w.ID, false)
		}
	}
	for _, o := range c.Operations {
		if f := h.followers[o.TenantID]; f != nil {
			f.watches.note(o.ID, true)
		}
	}
}

// ShowsProgress says whether some stream shows how watches change.
func (h *Hub) ShowsProgress() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.watching > 0
}

// Drain ends all streams, and refuses others. It may be called more than once.
func (h *Hub) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drained = true
	for s := range h.streams {
		s.end()
	}
}

// Request is what a reader asks for.
type Request struct {
	TenantID string
	// Holder is the id of whatever lets the reader read: an API key, or a session. See
	// Config.Valid.
	Holder   string
	After    string // an event of the tenant, or storage.FeedStart; "" for what comes next
	Type     string // of events; "" for all
	Progress bool   // also watches, as they change
}

// Open makes a stream, to be served and then closed. No event that is committed after it
// returns is missed. storage.ErrNotFound if After is no event of the tenant, and a
// [storage.FeedGoneError] if something after it has been deleted.
func (h *Hub) Open(ctx context.Context, r Request) (*Stream, error) {
	s := &Stream{hub: h, request: r, ended: make(chan struct{})}
	if err := h.enter(s); err != nil {
		return nil, err
	}
	end, newest, err := h.cfg.Store.FeedEnd(ctx, r.TenantID)
	s.place, s.begins = end, newest
	if err == nil && r.After != "" {
		s.begins = r.After
		s.place, err = h.cfg.Store.FeedPlace(ctx, r.TenantID, r.After)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.follower = h.follow(s, end)
	return s, nil
}

// enter counts the stream, and has somebody look for it.
func (h *Hub) enter(s *Stream) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.drained:
		return ErrDrained
	case h.held[s.request.Holder] >= MaxStreams:
		return ErrTooMany
	}
	s.readWithin = h.readWithin
	h.held[s.request.Holder]++
	h.streams[s] = struct{}{}
	h.open.Inc()
	if h.rest == nil {
		ctx, cancel := context.WithCancel(context.Background())
		h.rest = cancel
		go h.look(ctx)
	}
	return nil
}

// follow has the tenant's follower work for the stream. A new one begins at the end.
func (h *Hub) follow(s *Stream, end int64) *follower {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.followers[s.request.TenantID]
	if f == nil {
		f = newFollower(h.cfg, s.request.TenantID, end)
		h.followers[s.request.TenantID] = f
	}
	f.streams++
	if s.request.Progress {
		h.watching++
		s.watched = f.watches.join()
	}
	return f
}

// leave forgets the stream, and lets those rest who worked for it alone.
func (h *Hub) leave(s *Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, in := h.streams[s]; !in {
		return
	}
	delete(h.streams, s)
	h.open.Dec()
	if h.held[s.request.Holder]--; h.held[s.request.Holder] == 0 {
		delete(h.held, s.request.Holder)
	}
	if f := s.follower; f != nil {
		if s.request.Progress {
			h.watching--
			f.watches.leave()
		}
		if f.streams--; f.streams == 0 {
			f.stop()
			delete(h.followers, s.request.TenantID)
		}
	}
	if len(h.streams) == 0 {
		h.rest()
		h.rest = nil
	}
}

// look finds what no wake-up has told of, and ends the streams of holders who may not read
// any more, until ctx ends.
func (h *Hub) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// While the database is away nothing is sent either.
		if err := errors.Join(h.endInvalid(ctx), h.wakeLate(ctx)); err != nil && ctx.Err() == nil {
			h.cfg.Logger.DebugContext(ctx, "followers did not look", "error", err)
		}
	}
}

// endInvalid ends the streams of those who may not read any more.
func (h *Hub) endInvalid(ctx context.Context) error {
	h.mu.Lock()
	holders := make([]string, 0, len(h.held))
	for holder := range h.held {
		holders = append(holders, holder)
	}
	h.mu.Unlock()
	valid, err := h.cfg.Valid(ctx, holders)
	if err != nil {
		return err
	}
	may := make(map[string]bool, len(valid))
	for _, holder := range valid {
		may[holder] = true
	}
	asked := make(map[string]bool, len(holders))
	for _, holder := range holders {
		asked[holder] = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams {
		if asked[s.request.Holder] && !may[s.request.Holder] {
			s.end()
		}
	}
	return nil
}

// wakeLate wakes the followers who have missed something.
func (h *Hub) wakeLate(ctx context.Context) error {
	h.mu.Lock()
	tenants := make([]string, 0, len(h.followers))
	for id := range h.followers {
		tenants = append(tenants, id)
	}
	h.mu.Unlock()
	if len(tenants) == 0 {
		return nil
	}
	ends, err := h.cfg.Store.FeedEnds(ctx, tenants)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, end := range ends {
		if f := h.followers[id]; f != nil && f.events.end() < end {
			f.wake()
		}
	}
	return nil
}
