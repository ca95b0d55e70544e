package feed

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// fixture is a hub over a store, whose events are as large as the test wants.
type fixture struct {
	*Hub

	t           *testing.T
	store       *storage.Store
	tenant      string
	destination string
	url         string
	client      *http.Client
	served      chan error // how each stream ended
}

func newFixture(t *testing.T, size int) *fixture {
	t.Helper()
	ctx := t.Context()
	keys := get(seal.ParseKeyring(seal.NewKey()))(t)
	store := get(storage.Open(ctx, storage.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "relay.db"), Keys: keys}))(t)
	t.Cleanup(func() { _ = store.Close() })
	get(store.Migrate(ctx))(t)
	tenant := get(store.EnsureTenant(ctx, "default"))(t)
	destination := get(store.CreateDestination(ctx, storage.NewDestination{
		TenantID: tenant.ID, Kind: storage.KindWebhook, Name: "hook", URL: "https://example.com", MaxInFlight: 1,
	}))(t)
	padding := strings.Repeat("x", size)
	hub := get(New(Config{
		Store: store, Logger: slog.New(slog.DiscardHandler),
		Event: func(e storage.Event) ([]byte, error) { return []byte(e.ID + padding), nil },
		Watch: func(w storage.Watch) ([]byte, error) { return []byte(w.ID + padding), nil },
		Valid: func(_ context.Context, holders []string) ([]string, error) { return holders, nil },
	}))(t)
	store.SetOnChange(hub.Changed)
	f := &fixture{Hub: hub, t: t, store: store, tenant: tenant.ID, destination: destination.ID, served: make(chan error, 100)}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(hub.Drain)
	f.url, f.client = server.URL, server.Client()
	return f
}

// ServeHTTP serves a stream to whoever asks.
func (f *fixture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, err := f.Open(r.Context(), Request{TenantID: f.tenant, Holder: "key", After: r.Header.Get("Last-Event-ID")})
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	defer s.Close()
	w.Header().Set("Content-Type", ContentType)
	w.WriteHeader(http.StatusOK)
	f.served <- s.Serve(r.Context(), w)
}

// read opens a stream.
func (f *fixture) read(last string) *client.Stream {
	f.t.Helper()
	api := get(client.NewClientWithResponses(f.url, client.WithHTTPClient(f.client)))(f.t)
	s := get(client.OpenStream(f.t.Context(), api, &client.StreamEventsParams{LastEventID: &last}))(f.t)
	f.t.Cleanup(s.Close)
	return s
}

// patience is how long the readers of later streams may take.
func (f *fixture) patience(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readWithin = d
}

// make makes n events and returns their ids.
func (f *fixture) make(n int) (ids []string) {
	f.t.Helper()
	for range n {
		ids = append(ids, get(f.store.TestDestination(f.t.Context(), f.tenant, f.destination))(f.t).EventID)
	}
	return ids
}

// kept is how many bytes are remembered; a follower may still add to them.
func (l *log) kept() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

func get[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// Whoever does not read is cut off, and goes on where that was; what waits for it is bounded,
// and others are told meanwhile.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	const size, n = 128 << 10, 200 // together far more than the buffers of a connection
	f := newFixture(t, size)
	f.patience(200 * time.Millisecond)
	slow := f.read(storage.FeedStart)
	f.patience(readWithin)
	quick := f.read(storage.FeedStart)
	made := make(chan []string, 1)
	go func() { made <- f.make(n) }()
	var told []string
	for range n {
		told = append(told, get(quick.Next())(t).ID)
	}
	if ids := <-made; !slices.Equal(told, ids) {
		t.Errorf("the quick reader is told of %v, want %v", told, ids)
	}
	if err := <-f.served; err == nil {
		t.Error("the slow reader was not cut off")
	}
	f.mu.Lock()
	events := f.followers[f.tenant].events
	f.mu.Unlock()
	if kept := events.kept(); kept > rememberBytes {
		t.Errorf("%d bytes are kept for it", kept)
	}
	var late []string
	for m, err := slow.Next(); !errors.Is(err, io.EOF) && err == nil; m, err = slow.Next() {
		late = append(late, m.ID)
	}
	if len(late) == n {
		t.Fatal("the buffers hold all: nothing was cut off")
	}
	again := f.read(slow.LastEventID())
	for len(late) < n {
		late = append(late, get(again.Next())(t).ID)
	}
	if !slices.Equal(late, told) {
		t.Errorf("the slow reader is told of %v, want %v", late, told)
	}
}

// A stop does not wait for a reader who does not read.
func TestDrainOfASlowReader(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 128<<10)
	quick := f.read(storage.FeedStart)
	f.read(storage.FeedStart)
	f.make(100)
	for range 100 { // then the other is told of some, too
		get(quick.Next())(t)
	}
	f.Drain()
	for range 2 {
		select {
		case <-f.served: //nolint:errcheck // it may have been between two events
		case <-time.After(readWithin):
			t.Fatal("a stream has not ended")
		}
	}
	if _, err := f.Open(t.Context(), Request{TenantID: f.tenant, Holder: "key"}); !errors.Is(err, ErrDrained) {
		t.Errorf("another stream: %v", err)
	}
}

// Without streams nobody works, and nothing is remembered.
func TestRest(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	for range 3 {
		var streams []*Stream
		for range 5 {
			streams = append(streams, get(f.Open(t.Context(), Request{TenantID: f.tenant, Holder: "key", Progress: true}))(t))
		}
		if !f.ShowsProgress() {
			t.Error("no stream shows progress")
		}
		for _, s := range streams {
			s.Close()
			s.Close()
		}
		if f.ShowsProgress() {
			t.Error("a stream shows progress that is closed")
		}
		f.mu.Lock()
		if len(f.followers)+len(f.streams)+len(f.held) > 0 || f.rest != nil {
			t.Error("something is left")
		}
		f.mu.Unlock()
	}
	if _, err := f.Open(t.Context(), Request{TenantID: f.tenant, Holder: "key", After: "event_none"}); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("after no event: %v", err)
	}
	if len(f.streams) > 0 {
		t.Error("a stream that was refused is left")
	}
}

// What a log forgets is the oldest, beyond either bound.
func TestLogForgets(t *testing.T) {
	t.Parallel()
	l := newLog(10)
	if _, _, ok := l.after(9, 1); ok {
		t.Error("it knows what was before it")
	}
	_, changed, ok := l.after(10, 1)
	if !ok {
		t.Error("it does not know where it begins")
	}
	for seq := int64(11); seq <= 10+2*rememberMost; seq++ {
		l.append([]entry{{seq: seq, text: []byte("x")}})
	}
	<-changed
	first := int64(10 + rememberMost)
	if found, _, ok := l.after(first, 3); !ok || len(found) != 3 || found[0].seq != first+1 {
		t.Errorf("after %d: %v, %v", first, found, ok)
	}
	if _, _, ok := l.after(first-1, 3); ok {
		t.Error("it remembers too many")
	}
	l.append([]entry{{seq: l.end() + 1, text: make([]byte, rememberBytes)}})
	if l.bytes > rememberBytes || len(l.entries) != 1 {
		t.Errorf("it remembers %d bytes in %d", l.bytes, len(l.entries))
	}
	l.append([]entry{{seq: l.end() + 1, text: make([]byte, 2*rememberBytes)}})
	if _, _, ok := l.after(l.end()-1, 3); ok || l.bytes != 0 {
		t.Errorf("it remembers %d bytes", l.bytes)
	}
}

// Hints are gathered by watch, are dropped beyond a bound, and nobody gathers for nobody.
func TestWatchLog(t *testing.T) {
	t.Parallel()
	l := newWatchLog()
	l.note("watch", false)
	if watches, operations := l.take(); len(watches)+len(operations) > 0 {
		t.Error("hints for nobody")
	}
	place := l.join()
	for range 3 {
		l.note("watch", false)
		l.note("operation", true)
	}
	if watches, operations := l.take(); len(watches) != 1 || len(operations) != 1 {
		t.Errorf("%v, %v", watches, operations)
	}
	for i := range 2 * noteMost {
		l.note(strings.Repeat("x", i), false)
	}
	if watches, _ := l.take(); len(watches) != noteMost {
		t.Errorf("%d are noted", len(watches))
	}
	for seq := range int64(2 * rememberMost) {
		l.append([]entry{{seq: seq + 1}})
	}
	found, next, _ := l.newest(place, 9)
	if len(found) > 0 || next != 2*rememberMost {
		t.Errorf("who is far behind is shown %d, then %d", len(found), next)
	}
}

// forget has retention delete all events, which nothing may wait for.
func (f *fixture) forget() {
	f.t.Helper()
	if err := f.store.ForceDeleteDestination(f.t.Context(), f.tenant, f.destination); err != nil {
		f.t.Fatal(err)
	}
	for range 3 {
		get(f.store.DeleteOld(f.t.Context(), time.Nanosecond))(f.t)
	}
	if _, err := f.store.FeedPlace(f.t.Context(), f.tenant, storage.FeedStart); !errors.As(err, new(*storage.FeedGoneError)) {
		f.t.Fatalf("nothing was deleted: %v", err)
	}
}

// What retention deletes before a stream has told it ends the stream, so that its reader asks
// again and is told; a follower goes on with what is there.
func TestStreamBehindRetention(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 10)
	f.make(5)
	behind := get(f.Open(t.Context(), Request{TenantID: f.tenant, Holder: "key", After: storage.FeedStart}))(t)
	defer behind.Close()
	f.forget()
	if next, err := behind.next(t.Context()); err != nil || !next.over {
		t.Errorf("it goes on: %+v, %v", next, err)
	}
	late := newFollower(f.cfg, f.tenant, 0)
	defer late.stop()
	for {
		_, changed, ok := late.events.after(0, 1)
		if !ok {
			break
		}
		<-changed
	}
	if end := late.events.end(); end != 5 {
		t.Errorf("a follower goes on after %d", end)
	}
}
