package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oprelay/api"
	"oprelay/api/client"
	"oprelay/notifier/egress"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// A public address written as a number: nothing is looked up for it.
const publicURL = "https://93.184.215.14/relay"

const (
	accountID   = "023e105f4ecef8ad9ca31a8372d0c353"
	operationID = "4da8780eeb215e6cb7f48dd981c4ea02"
)

// relay is the API on a SQLite store of its own, over HTTP.
type relay struct {
	t      testing.TB
	store  *storage.Store
	server *api.Server
	url    string
	http   *http.Client // checks every answer against the document
	log    *syncBuffer
	clock  *clock
	tenant storage.Tenant
	write  string // a key of the tenant with that scope
	admin  string
}

// newRelay starts a relay; each change may adapt its configuration.
func newRelay(t testing.TB, changes ...func(*api.Config)) *relay {
	t.Helper()
	return newRelayOn(t, "sqlite:"+filepath.Join(t.TempDir(), "relay.db"), changes...)
}

// newRelayOn is newRelay on an empty database of the caller's choice.
func newRelayOn(t testing.TB, databaseURL string, changes ...func(*api.Config)) *relay {
	t.Helper()
	r := &relay{t: t, log: &syncBuffer{}, clock: &clock{now: time.Now().UTC().Truncate(time.Microsecond)}}
	keys, err := seal.ParseKeyring(seal.NewKey())
	must(t, err)
	r.store, err = storage.Open(t.Context(), storage.Config{
		URL:  databaseURL,
		Keys: keys,
		Now:  r.clock.Now,

		MoveMost: 2, // so that a few deliveries are many
	})
	must(t, err)
	t.Cleanup(func() { _ = r.store.Close() })
	_, err = r.store.Migrate(t.Context())
	must(t, err)
	config := api.Config{
		Store:   r.store,
		Logger:  slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Egress:  egress.Policy{},
		Metrics: prometheus.NewRegistry(),
		Sources: sources(),
	}
	for _, change := range changes {
		change(&config)
	}
	r.server, err = api.New(config)
	must(t, err)
	r.store.SetOnChange(r.server.Changed)
	listener := httptest.NewServer(r.server)
	t.Cleanup(listener.Close)
	r.url = listener.URL
	r.http = &http.Client{Transport: newChecker(t)}
	r.tenant, err = r.store.EnsureTenant(t.Context(), "default")
	must(t, err)
	r.write = r.key(r.tenant, storage.ScopeWrite)
	r.admin = r.key(r.tenant, storage.ScopeAdmin)
	return r
}

func (r *relay) key(tenant storage.Tenant, scopes ...storage.Scope) string {
	r.t.Helper()
	_, value, err := r.store.CreateKey(r.t.Context(), storage.NewAPIKey{TenantID: tenant.ID, Name: "test", Scopes: scopes})
	must(r.t, err)
	return string(value)
}

// otherTenant is a second tenant and a write key of it.
func (r *relay) otherTenant() (storage.Tenant, string) {
	r.t.Helper()
	tenant, err := r.store.EnsureTenant(r.t.Context(), "other")
	must(r.t, err)
	return tenant, r.key(tenant, storage.ScopeAdmin)
}

// client is the generated client with a key.
func (r *relay) client(key string) *client.ClientWithResponses {
	r.t.Helper()
	made, err := client.NewClientWithResponses(r.url, client.WithHTTPClient(r.http), client.WithAPIKey(key))
	must(r.t, err)
	return made
}

// reply is an answer, read to its end.
type reply struct {
	status  int
	header  http.Header
	body    []byte
	problem client.Problem // of a status from 400 on
}

// pointers are the places of the problem's errors.
func (a reply) pointers() []string {
	pointers := []string{}
	for _, fault := range a.problem.Errors {
		pointers = append(pointers, fault.Pointer)
	}
	return pointers
}

// change adapts a request before it is sent.
type change func(*http.Request)

func withHeader(name, value string) change {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// do sends a request with a key and JSON as its body ("" for none).
func (r *relay) do(key, method, path, body string, changes ...change) reply {
	r.t.Helper()
	answer, err := r.try(r.t.Context(), key, method, path, body, changes...)
	must(r.t, err)
	return answer
}

func (r *relay) try(ctx context.Context, key, method, path, body string, changes ...change) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, change := range changes {
		change(request)
	}
	response, err := r.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	answer := reply{status: response.StatusCode, header: response.Header}
	if answer.body, err = readAnswer(response); err != nil {
		return reply{}, err
	}
	if answer.status >= http.StatusBadRequest && method != http.MethodHead {
		err = json.Unmarshal(answer.body, &answer.problem)
	}
	return answer, err
}

// readAnswer reads an answer to its end, and of a stream the first line.
func readAnswer(response *http.Response) ([]byte, error) {
	if response.Header.Get("Content-Type") == "text/event-stream" && response.Request.Method != http.MethodHead {
		return bufio.NewReader(response.Body).ReadBytes('\n')
	}
	return io.ReadAll(response.Body)
}

// credential makes a credential and returns its id.
func (r *relay) credential(key string) string {
	r.t.Helper()
	return r.made(key, "/v1/credentials", `{"name":"cloudflare","api_token":"token-of-`+r.t.Name()+`"}`)
}

// webhook makes a webhook destination and returns its id.
func (r *relay) webhook(key string) string {
	r.t.Helper()
	return r.made(key, "/v1/destinations", `{"type":"webhook","name":"hook","url":"`+publicURL+`"}`)
}

// watch makes a watch and returns its id.
func (r *relay) watch(key, credentialID, destinationID string) string {
	r.t.Helper()
	return r.made(key, "/v1/watches", watchBody(credentialID, destinationID))
}

func watchBody(credentialID, destinationID string) string {
	return `{"operation_id":"` + operationID + `","account_id":"` + accountID + `","credential_id":"` + credentialID +
		`","destination_ids":["` + destinationID + `"],"timeout_seconds":60}`
}

// made posts what must succeed and returns the id of what was made.
func (r *relay) made(key, path, body string) string {
	r.t.Helper()
	answer := r.do(key, http.MethodPost, path, body)
	if answer.status != http.StatusCreated {
		r.t.Fatalf("POST %s: %d %s", path, answer.status, answer.body)
	}
	var row struct{ ID string }
	must(r.t, json.Unmarshal(answer.body, &row))
	return row.ID
}

// expire lets every watch reach its deadline, and nobody take a last look.
func (r *relay) expire() {
	r.t.Helper()
	r.clock.advance(2 * time.Minute)
	_, err := r.store.LastPolls(r.t.Context(), 1000)
	must(r.t, err)
	r.clock.advance(6 * time.Minute)
	_, err = r.store.ExpireWatches(r.t.Context(), 1000)
	must(r.t, err)
}

// rows counts what the tenant has stored.
func (r *relay) rows() map[string]int {
	r.t.Helper()
	counts := make(map[string]int)
	for _, path := range []string{"/v1/credentials", "/v1/destinations", "/v1/watches", "/v1/keys", "/v1/events", "/v1/deliveries"} {
		var list struct{ Data []json.RawMessage }
		must(r.t, json.Unmarshal(r.do(r.admin, http.MethodGet, path+"?limit=200", "").body, &list))
		counts[path] = len(list.Data)
	}
	return counts
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock is the store's time, moved by the test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

// syncBuffer gathers what is logged.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
