package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/storage"
)

// reader follows the stream, at whichever API answers, and goes on where it was cut off.
type reader struct {
	t    *testing.T
	apis func() []*client.ClientWithResponses

	mu   sync.Mutex
	told []string
	cuts int
	done chan struct{}
}

// read starts a reader that begins with the feed.
func read(t *testing.T, apis func() []*client.ClientWithResponses) *reader {
	t.Helper()
	r := &reader{t: t, apis: apis, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(r.done)
		last := "event_00000000000000000000000000"
		again := time.NewTicker(lookEvery)
		defer again.Stop()
		for ctx.Err() == nil {
			for _, api := range r.apis() {
				last = r.readFrom(ctx, api, last)
			}
			<-again.C
		}
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// readFrom reads one stream to its end, and returns where it ended.
func (r *reader) readFrom(ctx context.Context, api *client.ClientWithResponses, last string) string {
	s, err := client.OpenStream(ctx, api, &client.StreamEventsParams{LastEventID: &last})
	if err != nil {
		return last
	}
	defer s.Close()
	for {
		m, err := s.Next()
		if err != nil {
			r.mu.Lock()
			r.cuts++
			r.mu.Unlock()
			return s.LastEventID()
		}
		r.mu.Lock()
		r.told = append(r.told, m.ID)
		r.mu.Unlock()
	}
}

// has waits until the reader was told of n events.
func (r *reader) has(n int) []string {
	r.t.Helper()
	var told []string
	eventually(r.t, time.Minute, fmt.Sprint("the reader is told of ", n, " events"), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		told = slices.Clone(r.told)
		return len(told) >= n
	})
	return told
}

// wantFeed: readers are told of exactly what is in the feed, in its order.
func (s *system) wantFeed(t *testing.T, n int, readers ...*reader) {
	t.Helper()
	for i, r := range readers {
		told := r.has(n)
		var feed []string
		for _, e := range s.events(t) {
			feed = append(feed, e.ID)
		}
		if len(feed) != n || !slices.Equal(told, feed) {
			t.Errorf("reader %d was told of %d events, the feed has %d, want %d, or they differ", i, len(told), len(feed), n)
		}
	}
}

// Readers lose no event and get none twice, whatever happens to Redis and to the API that
// they read from, while workers in other processes make events.
func TestStreamAcrossProcesses(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t)
	s := startSeparate(t, newSurroundings(t), redis.URL, 1)
	other := startRelay(t, s.folder, s.env, "api")
	here := read(t, func() []*client.ClientWithResponses { return []*client.ClientWithResponses{s.api} })
	moving := read(t, func() []*client.ClientWithResponses { return []*client.ClientWithResponses{other.client(s.key), s.api} })
	credential, destination := s.credential(t, "token"), s.webhook(t)
	n := 0
	for _, happens := range []func(){
		func() {},
		func() { flushAll(t, redis.URL) },
		redis.Kill,
		redis.Restart,
		other.Kill,
		func() { other = startRelay(t, s.folder, s.env, "api") },
	} {
		const some = 20
		s.watches(t, credential, destination, s.operations(some, simulator.Plan{RunningFor: time.Second}))
		happens()
		n += some
		here.has(n)
		moving.has(n)
	}
	s.wantFeed(t, n, here, moving)
	moving.mu.Lock()
	defer moving.mu.Unlock()
	if moving.cuts == 0 {
		t.Error("the killed API cut nobody off")
	}
}

// The one process there is dies, and its readers go on where they were.
func TestStreamAfterAKill(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	var mu sync.Mutex
	api := s.api
	r := read(t, func() []*client.ClientWithResponses {
		mu.Lock()
		defer mu.Unlock()
		return []*client.ClientWithResponses{api}
	})
	credential, destination := s.credential(t, "token"), s.webhook(t)
	const some = 50
	for i := range 3 {
		s.watches(t, credential, destination, s.operations(some, simulator.Plan{RunningFor: 500 * time.Millisecond}))
		r.has(some*i + some/5)
		s.server.Kill()
		s.restart()
		mu.Lock()
		api = s.api
		mu.Unlock()
	}
	s.wantFeed(t, 3*some, r)
}

// A process that is asked to stop ends its streams, and does not wait for their readers.
func TestStreamEndsAtAStop(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	stream, err := client.OpenStream(t.Context(), s.api, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	s.server.Terminate()
	if _, err := stream.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if code := s.server.Wait(startLimit); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
}

// A thousand streams are within 100 MB, and each is told.
func TestThousandStreams(t *testing.T) {
	t.Parallel()
	const keys, each = 20, 50
	s := startEmbedded(t, newSurroundings(t))
	before := s.server.memory(t)
	var streams []*client.Stream
	for range keys {
		made, err := s.api.CreateKeyWithResponse(t.Context(), nil, client.NewKey{Name: "reader", Scopes: []client.Scope{client.ScopeRead}})
		want(t, 201, err, made)
		api := s.server.client(*made.JSON201.Key)
		for range each {
			stream, err := client.OpenStream(t.Context(), api, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			streams = append(streams, stream)
		}
	}
	destination := s.webhook(t)
	begun := time.Now()
	tested, err := s.api.TestDestinationWithResponse(t.Context(), destination, nil)
	want(t, 202, err, tested)
	for _, stream := range streams {
		if m, err := stream.Next(); err != nil || m.ID != tested.JSON202.EventID {
			t.Fatalf("%v, %v", m, err)
		}
	}
	told := time.Since(begun)
	after := s.server.memory(t)
	t.Logf("%d streams: %d MB, %d MB without; all were told %s after the request began", keys*each, after>>20, before>>20, told)
	if after-before > 100<<20 {
		t.Errorf("%d streams take %d MB", keys*each, (after-before)>>20)
	}
}

// memory is what the process holds, in bytes.
func (r *relay) memory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(r.PID()) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindStringSubmatch(string(status))
	if found == nil {
		t.Fatal("no VmRSS in " + strings.TrimSpace(string(status)))
	}
	kilobytes, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// A reader at one process is shown how watches move that others register and poll.
func TestProgressAcrossProcesses(t *testing.T) {
	t.Parallel()
	s := startSeparate(t, newSurroundings(t), testenv.Redis(t), 1)
	other := startRelay(t, s.folder, s.env, "api")
	stream, err := client.OpenStream(t.Context(), other.client(s.key), &client.StreamEventsParams{Progress: new(true)})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	seen := make(chan client.Watch, 1000)
	go func() {
		defer close(seen)
		for m, err := stream.Next(); err == nil; m, err = stream.Next() {
			var w client.Watch
			if m.Event == "watch" && json.Unmarshal(m.Data, &w) == nil {
				seen <- w
			}
		}
	}()
	credential, destination := s.credential(t, "token"), s.webhook(t)
	// They are hints: the first may come before the process listens.
	again, up := time.NewTicker(time.Second), time.NewTimer(time.Minute)
	defer again.Stop()
	defer up.Stop()
	for missing := []string{"watching ", "watching running", "completed completed"}; len(missing) > 0; {
		select {
		case <-again.C:
			s.watches(t, credential, destination, s.operations(1, simulator.Plan{PendingFor: time.Second, RunningFor: time.Second}))
		case w := <-seen:
			state := string(w.Status) + " "
			if w.Operation.Status != nil {
				state += string(*w.Operation.Status)
			}
			missing = slices.DeleteFunc(missing, func(s string) bool { return s == state })
		case <-up.C:
			t.Fatalf("no watch was shown as %q", missing)
		}
	}
}

// Changes are told as they are, and what another version tells besides is left out.
func TestChangesAreTold(t *testing.T) {
	t.Parallel()
	want := storage.Changes{
		Events:     []string{"tenant_1", "tenant_2"},
		Watches:    []storage.Changed{{TenantID: "tenant_1", ID: "watch_1"}},
		Operations: []storage.Changed{{TenantID: "tenant_2", ID: "operation_1"}, {TenantID: "tenant_2", ID: "operation_2"}},
	}
	items, hints := encodeChanges(want)
	got := decodeChanges(slices.Concat(items, hints, []string{"", "novelty tenant_1 x"}))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
