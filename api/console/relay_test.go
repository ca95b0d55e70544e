package console_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"oprelay/api"
	"oprelay/api/console"
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

// relay is the API and its console on a SQLite store of its own, over HTTP.
type relay struct {
	t      testing.TB
	store  *storage.Store
	server *api.Server
	site   *console.Console
	url    string
	log    *syncBuffer
	clock  *clock
	tenant storage.Tenant
}

// newRelay starts a relay; each change may adapt the API's configuration.
func newRelay(t testing.TB, changes ...func(*api.Config)) *relay {
	t.Helper()
	r := &relay{t: t, log: &syncBuffer{}, clock: &clock{now: time.Now().UTC().Truncate(time.Microsecond)}}
	keys, err := seal.ParseKeyring(seal.NewKey())
	must(t, err)
	r.store, err = storage.Open(t.Context(), storage.Config{
		URL: "sqlite:" + filepath.Join(t.TempDir(), "relay.db"), Keys: keys, Now: r.clock.Now,
	})
	must(t, err)
	t.Cleanup(func() { _ = r.store.Close() })
	_, err = r.store.Migrate(t.Context())
	must(t, err)
	log := slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	config := api.Config{Store: r.store, Logger: log, Egress: egress.Policy{}, Sources: sources()}
	for _, change := range changes {
		change(&config)
	}
	server, err := api.New(config)
	must(t, err)
	site, err := console.New(console.Config{API: server, Store: r.store, Logger: log, Now: r.clock.Now})
	must(t, err)
	server.Mount(site)
	r.server, r.site = server, site
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	t.Cleanup(server.Drain)
	r.url = listener.URL
	r.tenant, err = r.store.EnsureTenant(t.Context(), "default")
	must(t, err)
	return r
}

func (r *relay) key(tenant storage.Tenant, scope storage.Scope) (storage.Key, string) {
	r.t.Helper()
	key, value, err := r.store.CreateKey(r.t.Context(), storage.NewAPIKey{TenantID: tenant.ID, Name: "test", Scopes: []storage.Scope{scope}})
	must(r.t, err)
	return key, string(value)
}

// browser keeps cookies and follows no redirects.
type browser struct {
	r      *relay
	client *http.Client
}

func (r *relay) browser() *browser {
	r.t.Helper()
	jar, err := cookiejar.New(nil)
	must(r.t, err)
	return &browser{r: r, client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
}

// signedIn is a browser with a session of a new key with the scope.
func (r *relay) signedIn(tenant storage.Tenant, scope storage.Scope) *browser {
	r.t.Helper()
	_, key := r.key(tenant, scope)
	b := r.browser()
	if got := b.post("/login", url.Values{"key": {key}}); got.status != http.StatusSeeOther {
		r.t.Fatalf("signing in: %d %s", got.status, got.body)
	}
	return b
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

func (b *browser) get(path string) reply {
	b.r.t.Helper()
	request, err := http.NewRequestWithContext(b.r.t.Context(), http.MethodGet, b.r.url+path, nil)
	must(b.r.t, err)
	return b.do(request)
}

func (b *browser) post(path string, form url.Values) reply {
	b.r.t.Helper()
	request, err := http.NewRequestWithContext(b.r.t.Context(), http.MethodPost, b.r.url+path, strings.NewReader(form.Encode()))
	must(b.r.t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(request)
}

func (b *browser) do(request *http.Request) reply {
	b.r.t.Helper()
	response, err := b.client.Do(request)
	must(b.r.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(b.r.t, err)
	return reply{response.StatusCode, response.Header, string(body)}
}

// made posts to the API what must succeed, and returns the id of what was made.
func (r *relay) made(key, path, body string) string {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url+path, strings.NewReader(body))
	must(r.t, err)
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	got := r.browser().do(request)
	if got.status/100 != 2 {
		r.t.Fatalf("POST %s: %d %s", path, got.status, got.body)
	}
	var row struct{ ID string }
	must(r.t, json.Unmarshal([]byte(got.body), &row))
	return row.ID
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock is the time, moved by the test.
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
