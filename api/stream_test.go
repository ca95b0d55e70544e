package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oprelay/api"
	"oprelay/api/client"
	"oprelay/api/feed"
	"oprelay/deploy/testenv"
	"oprelay/storage"
)

// stream opens a stream, which ends with the test.
func (r *relay) stream(key string, params *client.StreamEventsParams) *client.Stream {
	r.t.Helper()
	s, err := r.tryStream(r.t.Context(), key, params)
	must(r.t, err)
	r.t.Cleanup(s.Close)
	return s
}

func (r *relay) tryStream(ctx context.Context, key string, params *client.StreamEventsParams) (*client.Stream, error) {
	c, err := client.NewClientWithResponses(r.url, client.WithHTTPClient(r.http), client.WithAPIKey(key))
	must(r.t, err)
	return client.OpenStream(ctx, c, params)
}

// receive reads n messages of a stream.
func receive(t *testing.T, s *client.Stream, n int) []client.Message {
	t.Helper()
	var all []client.Message
	for range n {
		m, err := s.Next()
		must(t, err)
		all = append(all, m)
	}
	return all
}

func idsOf(messages []client.Message) []string {
	var ids []string
	for _, m := range messages {
		ids = append(ids, m.ID)
	}
	return ids
}

// tester makes events, one for each call, and returns their ids.
type tester struct {
	r           *relay
	key         string
	destination string
}

func (r *relay) tester(key string) tester { return tester{r, key, r.webhook(key)} }

// events makes n events of the type destination.test.
func (e tester) events(n int) []string {
	e.r.t.Helper()
	var ids []string
	for range n {
		answer := e.r.do(e.key, http.MethodPost, "/v1/destinations/"+e.destination+"/test", "")
		var delivery client.Delivery
		must(e.r.t, json.Unmarshal(answer.body, &delivery))
		ids = append(ids, delivery.EventID)
	}
	return ids
}

func TestStreamTellsWhatGetSays(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	events := r.tester(r.write)
	events.events(2) // before, which it does not tell
	s := r.stream(r.key(r.tenant, storage.ScopeRead), nil)
	want := events.events(2)
	r.watch(r.write, r.credential(r.write), events.destination)
	r.expire()
	got := receive(t, s, 3)
	if !slices.Equal(idsOf(got[:2]), want) {
		t.Fatalf("told of %v, want %v", idsOf(got), want)
	}
	for i, kind := range []string{"destination.test", "destination.test", "operation.expired"} {
		answer := r.do(r.write, http.MethodGet, "/v1/events/"+got[i].ID, "")
		if got[i].Event != kind || string(got[i].Data) != strings.TrimSpace(string(answer.body)) {
			t.Errorf("%s: %s\nwant %s: %s", got[i].Event, got[i].Data, kind, answer.body)
		}
	}
	if s.LastEventID() != got[2].ID {
		t.Errorf("last is %s", s.LastEventID())
	}
}

// Whoever was cut off, wherever that was, goes on with exactly the rest: also from where a
// stream begins that has told nothing yet, and from the beginning of a feed without events.
func TestStreamGoesOnFromEachPlace(t *testing.T) {
	t.Parallel()
	for name, url := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelayOn(t, url(t))
			events := r.tester(r.write)
			first := r.stream(r.write, nil)
			run := events.events(60) // more than a page of who catches up
			told := idsOf(receive(t, first, len(run)))
			if !slices.Equal(told, run) {
				t.Fatalf("told of %v, want %v", told, run)
			}
			places := append([]string{storage.FeedStart}, run...)
			for i, place := range places {
				for _, params := range []client.StreamEventsParams{{After: &place}, {LastEventID: &place, After: &run[9]}} {
					s := r.stream(r.write, &params)
					if i < len(run) {
						if rest := idsOf(receive(t, s, len(run)-i)); !slices.Equal(rest, run[i:]) {
							t.Errorf("after %s: %v", place, rest)
						}
					}
					s.Close()
				}
			}
			last := begunAt(t, r)
			missed := events.events(1)
			again := r.stream(r.write, &client.StreamEventsParams{LastEventID: &last})
			if got := idsOf(receive(t, again, 1)); !slices.Equal(got, missed) {
				t.Errorf("after a stream that told nothing: %v, want %v", got, missed)
			}
		})
	}
}

// begunAt is the id that a stream tells before it has told anything.
func begunAt(t *testing.T, r *relay) string {
	t.Helper()
	line := r.do(r.write, http.MethodGet, "/v1/events/stream", "").body
	id, ok := strings.CutPrefix(string(line), "id: ")
	if !ok {
		t.Fatalf("a stream begins with %q", line)
	}
	return strings.TrimSpace(id)
}

func databases() map[string]func(t *testing.T) string {
	return map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { t.Helper(); return "sqlite:" + t.TempDir() + "/relay.db" },
		"postgres": func(t *testing.T) string { t.Helper(); return testenv.Postgres(t) },
	}
}

func TestStreamOfAFeedWithoutEvents(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	if at := begunAt(t, r); at != storage.FeedStart {
		t.Errorf("it begins at %s", at)
	}
	if answer := r.do(r.write, http.MethodGet, "/v1/events?after="+storage.FeedStart, ""); answer.status != http.StatusOK {
		t.Errorf("the feed from there: %d %s", answer.status, answer.body)
	}
}

func TestStreamOfAType(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	events := r.tester(r.write)
	all := r.stream(r.write, nil)
	expired := r.stream(r.write, &client.StreamEventsParams{Type: new(client.EventOperationExpired)})
	credential := r.credential(r.write)
	for range 3 {
		events.events(20)
		r.watch(r.write, credential, events.destination)
		r.expire()
	}
	var want []string
	for _, m := range receive(t, all, 63) {
		if m.Event == "operation.expired" {
			want = append(want, m.ID)
		}
	}
	if got := idsOf(receive(t, expired, 3)); len(want) != 3 || !slices.Equal(got, want) {
		t.Errorf("as they come: %v, want %v", got, want)
	}
	late := r.stream(r.write, &client.StreamEventsParams{Type: new(client.EventOperationExpired), After: new(storage.FeedStart)})
	if got := idsOf(receive(t, late, 3)); !slices.Equal(got, want) {
		t.Errorf("from the beginning: %v, want %v", got, want)
	}
	events.events(1)
	r.watch(r.write, credential, events.destination)
	r.expire()
	for _, s := range []*client.Stream{expired, late} {
		if m := receive(t, s, 1)[0]; m.Event != "operation.expired" || slices.Contains(want, m.ID) {
			t.Errorf("then %v", m)
		}
	}
}

func TestStreamIsOfItsTenant(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	other, otherKey := r.otherTenant()
	mine, theirs := r.tester(r.write), r.tester(otherKey)
	s := r.stream(r.key(other, storage.ScopeRead), &client.StreamEventsParams{Progress: new(true)})
	for range 5 {
		mine.events(3)
		r.watch(r.write, r.credential(r.write), mine.destination)
		r.expire()
	}
	id := theirs.events(1)[0]
	if m := receive(t, s, 1)[0]; m.ID != id {
		t.Errorf("told of %v, want %s", m, id)
	}
	foreign := mine.events(1)[0]
	for _, place := range []client.StreamEventsParams{{After: &foreign}, {LastEventID: &foreign}} {
		wantRefusal(t, r, otherKey, place, http.StatusUnprocessableEntity)
	}
}

func wantRefusal(t *testing.T, r *relay, key string, params client.StreamEventsParams, status int) client.RefusedError {
	t.Helper()
	s, err := r.tryStream(t.Context(), key, &params)
	if err == nil {
		s.Close()
	}
	refused, ok := errors.AsType[*client.RefusedError](err)
	if !ok || refused.Status != status {
		t.Fatalf("%v, want status %d", err, status)
	}
	return *refused
}

func TestStreamFromNoEvent(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	absent, wrong := "event_01jd8p5kzve6wbdq8rfg0m3c7x", "42"
	for pointer, params := range map[string]client.StreamEventsParams{
		"?after": {After: &absent}, "Last-Event-ID:": {LastEventID: &absent},
	} {
		if problem := wantRefusal(t, r, r.write, params, http.StatusUnprocessableEntity).Problem; problem.Errors[0].Pointer != pointer {
			t.Errorf("%s: %v", pointer, problem)
		}
	}
	wantRefusal(t, r, r.write, client.StreamEventsParams{After: &wrong}, http.StatusUnprocessableEntity)
	wantRefusal(t, r, r.write, client.StreamEventsParams{LastEventID: &wrong}, http.StatusUnprocessableEntity)
}

func TestStreamEndsWithItsKey(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	events := r.tester(r.write)
	id := r.made(r.admin, "/v1/keys", `{"name":"other","scopes":["read"]}`)
	secret, value, err := r.store.CreateKey(t.Context(), storage.NewAPIKey{
		TenantID: r.tenant.ID, Name: "of the stream", Scopes: []storage.Scope{storage.ScopeRead},
	})
	must(t, err)
	s, stays := r.stream(string(value), nil), r.stream(r.write, nil)
	must(t, r.store.RevokeKey(t.Context(), r.tenant.ID, id))
	events.events(1)
	receive(t, s, 1)
	receive(t, stays, 1)
	must(t, r.store.RevokeKey(t.Context(), r.tenant.ID, secret.ID))
	if m, err := s.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after its key was revoked: %v, %v", m, err)
	}
	events.events(1)
	receive(t, stays, 1)
	wantRefusal(t, r, string(value), client.StreamEventsParams{}, http.StatusUnauthorized)
}

func TestStreamsOfAKeyAreBounded(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	var all []*client.Stream
	for range feed.MaxStreams {
		all = append(all, r.stream(r.write, nil))
	}
	refused := wantRefusal(t, r, r.write, client.StreamEventsParams{}, http.StatusTooManyRequests)
	if refused.RetryAfter < time.Second || !strings.HasSuffix(refused.Problem.Type, "too-many-streams") {
		t.Errorf("%+v", refused)
	}
	r.stream(r.admin, nil) // of another key
	all[0].Close()
	eventually(t, func() bool {
		s, err := r.tryStream(t.Context(), r.write, nil)
		if err == nil {
			t.Cleanup(s.Close)
		}
		return err == nil
	}, "room for another stream")
}

func TestStreamEndsWithTheServer(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	events := r.tester(r.write)
	idle, busy := r.stream(r.write, nil), r.stream(r.write, &client.StreamEventsParams{Progress: new(true)})
	events.events(1)
	for _, s := range []*client.Stream{idle, busy} {
		receive(t, s, 1)
	}
	r.server.Drain()
	for _, s := range []*client.Stream{idle, busy} {
		if _, err := s.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%v, want its end", err)
		}
	}
	wantRefusal(t, r, r.write, client.StreamEventsParams{}, http.StatusServiceUnavailable)
}

func TestStreamOfProgress(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	events := r.tester(r.write)
	s, plain := r.stream(r.write, &client.StreamEventsParams{Progress: new(true)}), r.stream(r.write, nil)
	credential := r.credential(r.write)
	id := r.watch(r.write, credential, events.destination)
	want := func(status, operation string) {
		t.Helper()
		m := receive(t, s, 1)[0]
		answer := r.do(r.write, http.MethodGet, "/v1/watches/"+id, "")
		if m.Event != "watch" || m.ID != "" || string(m.Data) != strings.TrimSpace(string(answer.body)) {
			t.Errorf("%v %s\nwant %s", m.Event, m.Data, answer.body)
		}
		var w client.Watch
		must(t, json.Unmarshal(m.Data, &w))
		now := client.OperationStatus("")
		if w.Operation.Status != nil {
			now = *w.Operation.Status
		}
		if string(w.Status) != status || string(now) != operation {
			t.Errorf("%s %s, want %s %s", w.Status, now, status, operation)
		}
	}
	want("watching", "")
	must(t, r.store.RecordPolls(t.Context(), []storage.PollResult{{
		RowID: r.poll(credential).RowID, At: r.store.Steady(), Next: r.store.Steady().Add(time.Minute), Status: storage.OperationRunning,
	}}))
	want("watching", "running")
	r.do(r.write, http.MethodDelete, "/v1/watches/"+id, "")
	want("canceled", "running")
	event := events.events(1)
	for _, s := range []*client.Stream{s, plain} {
		if got := idsOf(receive(t, s, 1)); !slices.Equal(got, event) {
			t.Errorf("then %v, want %v", got, event)
		}
	}
}

func TestHeadOfAStream(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	answer := r.do(r.write, http.MethodHead, "/v1/events/stream", "")
	if answer.status != http.StatusOK || answer.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d %v", answer.status, answer.header)
	}
}

// A wake-up that never comes costs a second, and nothing else.
func TestStreamThatNobodyWakes(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	r.store.SetOnChange(func(storage.Changes) {})
	events := r.tester(r.write)
	s := r.stream(r.write, nil)
	for range 3 {
		want := events.events(3)
		if got := idsOf(receive(t, s, 3)); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// eventually waits until ok is true.
func eventually(t *testing.T, ok func() bool, what string) {
	t.Helper()
	tick, end := time.NewTicker(10*time.Millisecond), time.NewTimer(time.Minute)
	defer tick.Stop()
	defer end.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatal("in vain waited for " + what)
		}
	}
}

// The server's timeouts are for requests, not for streams.
func TestStreamOutlivesTheServersTimeouts(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	const timeout = 100 * time.Millisecond
	server := httptest.NewUnstartedServer(r.server)
	server.Config.ReadTimeout, server.Config.WriteTimeout = timeout, timeout
	server.Start()
	t.Cleanup(server.Close)
	events, own := r.tester(r.write), r.url
	r.url = server.URL
	s := r.stream(r.write, nil)
	r.url = own
	after := time.NewTimer(5 * timeout)
	defer after.Stop()
	<-after.C
	want := events.events(1)
	if got := idsOf(receive(t, s, 1)); !slices.Equal(got, want) {
		t.Errorf("told of %v, want %v", got, want)
	}
}

// A stream is counted, and is no slow request.
func TestStreamIsNoSlowRequest(t *testing.T) {
	t.Parallel()
	metrics := prometheus.NewRegistry()
	r := newRelay(t, func(c *api.Config) { c.Metrics = metrics })
	one, two := r.stream(r.write, nil), r.stream(r.admin, nil)
	if open, _ := ofStreams(t, metrics); open != 2 {
		t.Errorf("%v streams are open, want 2", open)
	}
	one.Close()
	two.Close()
	eventually(t, func() bool { open, _ := ofStreams(t, metrics); return open == 0 }, "the end of the streams")
	eventually(t, func() bool { _, answered := ofStreams(t, metrics); return answered == 2 }, "the requests to be counted")
	families, err := metrics.Gather()
	must(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "relay_http_request_duration_seconds" && strings.Contains(m.String(), "/v1/events/stream") {
				t.Errorf("%s", m)
			}
		}
	}
}

// ofStreams is how many streams are open, and how many have ended.
func ofStreams(t *testing.T, metrics *prometheus.Registry) (open, ended float64) {
	t.Helper()
	families, err := metrics.Gather()
	must(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch {
			case f.GetName() == "relay_event_streams":
				open = m.GetGauge().GetValue()
			case f.GetName() == "relay_http_requests_total" && strings.Contains(m.String(), "/v1/events/stream"):
				ended += m.GetCounter().GetValue()
			}
		}
	}
	return open, ended
}

func TestPartsOfTheFeed(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	events := r.tester(r.write)
	early := events.events(3)
	r.clock.advance(time.Hour)
	since := r.clock.Now()
	r.watch(r.write, r.credential(r.write), events.destination)
	r.expire()
	late := events.events(2)
	get := func(query string) (ids []string) {
		t.Helper()
		for cursor := ""; ; {
			var page struct {
				Data       []struct{ ID, Type string }
				NextCursor string `json:"next_cursor"`
			}
			sent := query
			if cursor != "" {
				parts, err := url.ParseQuery(query)
				must(t, err)
				parts.Del("since")
				parts.Set("cursor", cursor)
				sent = parts.Encode()
			}
			must(t, json.Unmarshal(r.do(r.write, http.MethodGet, "/v1/events?"+sent, "").body, &page))
			for _, e := range page.Data {
				ids = append(ids, e.ID)
			}
			if cursor = page.NextCursor; cursor == "" {
				return ids
			}
		}
	}
	all := get("limit=200")
	if len(all) != 6 {
		t.Fatalf("%d events", len(all))
	}
	for query, want := range map[string][]string{
		"limit=1&type=destination.test":                        slices.Concat(early, late),
		"type=operation.expired":                               all[3:4],
		"type=credential.rejected":                             nil,
		"limit=1&since=" + timeIn(since):                       all[3:],
		"since=" + timeIn(since.Add(-2e12)):                    all[3:],
		"since=2000-01-01T00:00:00Z":                           all,
		"since=2999-01-01T00:00:00%2B05:00":                    nil,
		"type=destination.test&since=" + timeIn(since):         late,
		"since=" + timeIn(since) + "&cursor=" + cursor(all[3]): all[4:],
		"after=" + all[0] + "&cursor=" + cursor(all[3]):        all[4:],
	} {
		if got := get(query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	for query, pointers := range map[string][]string{
		"after=" + all[0] + "&since=" + timeIn(since): {"?after", "?since"},
		"since=yesterday": {"?since"}, "type=operation.lost": {"?type"}, "since=": {"?since"},
	} {
		answer := r.do(r.write, http.MethodGet, "/v1/events?"+query, "")
		if answer.status != http.StatusUnprocessableEntity || !slices.Equal(answer.pointers(), pointers) {
			t.Errorf("%s: %d %s", query, answer.status, answer.body)
		}
	}
}

func timeIn(at time.Time) string { return url.QueryEscape(at.Format(time.RFC3339Nano)) }
