package console_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"oprelay/api"
	"oprelay/api/console"
	"oprelay/api/ratelimit"
	"oprelay/storage"
)

func TestSigningInAndOut(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeRead)
	b := r.browser()
	page := b.get("/login?next=/watches%3Fstatus%3Dfailed")
	if page.status != http.StatusOK || !strings.Contains(page.body, `name="next" value="/watches?status=failed"`) {
		t.Errorf("the login page: %d\n%s", page.status, page.body)
	}
	page.wantPolicy(t, "GET /login")
	page.wantPage(t, "GET /login")
	got := b.post("/login", url.Values{"key": {" " + key + "\n"}, "next": {"/watches?status=failed"}})
	if got.status != http.StatusSeeOther || got.header.Get("Location") != "/watches?status=failed" {
		t.Errorf("signing in: %d to %s", got.status, got.header.Get("Location"))
	}
	cookie := got.cookie(t)
	if cookie.Name != "relay_session" || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Secure ||
		cookie.Path != "/" || cookie.MaxAge != 12*60*60 || cookie.Domain != "" {
		t.Errorf("cookie on plain loopback: %+v", cookie)
	}
	if got := b.get("/login?next=/events"); got.status != http.StatusSeeOther || got.header.Get("Location") != "/events" {
		t.Errorf("the login page with a session: %d", got.status)
	}
	before := r.browser()
	before.client.Jar.SetCookies(mustURL(t, r.url), []*http.Cookie{{Name: cookie.Name, Value: cookie.Value}})
	out := b.post("/logout", nil)
	if out.status != http.StatusSeeOther || out.header.Get("Location") != "/login" || out.cookie(t).MaxAge >= 0 {
		t.Errorf("signing out: %d %v", out.status, out.header)
	}
	out.wantPolicy(t, "POST /logout")
	for name, b := range map[string]*browser{"the browser": b, "whoever kept the cookie": before} {
		if got := b.get("/watches"); got.status != http.StatusSeeOther {
			t.Errorf("after signing out, %s gets %d", name, got.status)
		}
	}
	for _, secret := range []string{key, cookie.Value} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func (a reply) cookie(t *testing.T) *http.Cookie {
	t.Helper()
	set := (&http.Response{Header: a.header}).Cookies()
	if len(set) != 1 {
		t.Fatalf("%d cookies: %v", len(set), a.header)
	}
	return set[0]
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	must(t, err)
	return u
}

// A wrong key is said to be wrong, counts with those presented to the API, and then has to wait.
func TestWrongKeys(t *testing.T) {
	t.Parallel()
	const most = 3
	r := newRelay(t, func(c *api.Config) {
		c.Limits = api.Limits{
			Counter:   ratelimit.New(nil, slog.New(slog.DiscardHandler), time.Now),
			WrongKeys: ratelimit.Rate{N: most, Per: time.Hour},
		}
	})
	b := r.browser()
	for _, wrong := range []string{"relay_wrong", "", "relay_<script>"} {
		got := b.post("/login", url.Values{"key": {wrong}})
		if got.status != http.StatusUnauthorized || !strings.Contains(got.body, "unknown or revoked") || len(got.header.Values("Set-Cookie")) > 0 {
			t.Errorf("key %q: %d\n%s", wrong, got.status, got.body)
		}
		if strings.Contains(got.body, "<script>") || strings.Contains(got.body, wrong) && wrong != "" {
			t.Errorf("the wrong key is shown:\n%s", got.body)
		}
		got.wantPolicy(t, "POST /login")
	}
	// An empty key is no key, and not counted.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/v1/watches", nil)
	must(t, err)
	request.Header.Set("Authorization", "Bearer relay_wrong_too")
	if got := b.do(request); got.status != http.StatusUnauthorized {
		t.Fatalf("the API: %d", got.status)
	}
	got := b.post("/login", url.Values{"key": {"relay_wrong"}})
	if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" ||
		!strings.Contains(got.body, "wait for ") || strings.Contains(got.body, "Retry-After") {
		t.Errorf("beyond the limit: %d %v\n%s", got.status, got.header, got.body)
	}
	_, key := r.key(r.tenant, storage.ScopeRead)
	if got := b.post("/login", url.Values{"key": {key}}); got.status != http.StatusSeeOther {
		t.Errorf("a right key beyond the limit: %d", got.status)
	}
}

// Behind TLS, or a name that is not this machine's, the cookie is Secure and for this host alone.
func TestCookieByAddress(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeRead)
	for _, c := range []struct {
		name, host, proto, peer, site string
		secure, warned                bool
	}{
		{name: "plain loopback", host: "127.0.0.1:8080", peer: "127.0.0.1:9"},
		{name: "its name", host: "localhost:8080", peer: "127.0.0.1:9"},
		{name: "loopback of IPv6", host: "[::1]:8080", peer: "[::1]:9"},
		{name: "a TLS proxy on this machine", host: "localhost", proto: "https", peer: "127.0.0.1:9", secure: true},
		{name: "two proxies, the first with TLS", host: "localhost", proto: "https, http", peer: "127.0.0.1:9", secure: true},
		{name: "a TLS proxy", host: "relay.example.com", proto: "https", peer: "10.0.0.9:9", secure: true},
		{name: "a TLS proxy that says nothing", host: "relay.example.com", peer: "10.0.0.9:9", site: "same-origin", secure: true},
		{name: "plain HTTP over a network", host: "relay.example.com", peer: "10.0.0.9:9", secure: true, warned: true},
		{name: "a forged host", host: "localhost", peer: "203.0.113.9:9", secure: true},
		{name: "a name that begins like this machine's", host: "localhost.example.com", peer: "10.0.0.9:9", secure: true, warned: true},
	} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.host+"/login",
			strings.NewReader(url.Values{"key": {key}}.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		show := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.host+"/login", nil)
		for _, request := range []*http.Request{request, show} {
			request.RemoteAddr = c.peer
			if c.proto != "" {
				request.Header.Set("X-Forwarded-Proto", c.proto)
			}
			if c.site != "" {
				request.Header.Set("Sec-Fetch-Site", c.site)
			}
		}
		got, page := httptest.NewRecorder(), httptest.NewRecorder()
		r.server.ServeHTTP(got, request)
		r.server.ServeHTTP(page, show)
		cookie := reply{header: got.Header()}.cookie(t)
		wantName := "relay_session"
		if c.secure {
			wantName = "__Host-relay_session"
		}
		if cookie.Secure != c.secure || cookie.Name != wantName {
			t.Errorf("%s: %s, Secure %v", c.name, cookie.Name, cookie.Secure)
		}
		if warned := strings.Contains(page.Body.String(), "plain HTTP"); warned != c.warned {
			t.Errorf("%s: warned %v", c.name, warned)
		}
	}
}

// With an address that is https, the cookie is Secure also if a proxy on this machine says nothing of it, and commands
// name that address.
func TestCookieByTheConsolesAddress(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	watch, _ := r.set("")
	_, key := r.key(r.tenant, storage.ScopeRead)
	site, err := console.New(console.Config{API: r.server, Store: r.store, Logger: slog.New(slog.DiscardHandler), URL: "https://relay.example.com/"})
	must(t, err)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost:8080/login", strings.NewReader(url.Values{"key": {key}}.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.RemoteAddr = "127.0.0.1:9"
	got := httptest.NewRecorder()
	site.ServeHTTP(got, request)
	cookie := reply{header: got.Header()}.cookie(t)
	if !cookie.Secure || cookie.Name != "__Host-relay_session" {
		t.Errorf("%s, Secure %v", cookie.Name, cookie.Secure)
	}
	request = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:8080/watches/"+watch, nil)
	request.RemoteAddr = "127.0.0.1:9"
	request.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
	got = httptest.NewRecorder()
	site.ServeHTTP(got, request)
	if got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "https://relay.example.com/v1/watches/"+watch) {
		t.Errorf("%d\n%s", got.Code, got.Body)
	}
}

// Signing in leads to the console's own paths alone.
func TestNextLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeRead)
	for _, next := range []string{
		"//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example/", "https:evil.example", "javascript:alert(1)",
		"evil.example", "///evil.example", "/\t/evil.example", "/%09/evil.example/..//x", "http:/evil", "/login", "/login?next=/login", "", " /x",
		"/.//evil.example", "/x/..//evil.example", "/%2f/evil.example", "/v1/watches", "/watches/../v1/watches", "/live", "/static/console.js",
	} {
		got := r.browser().post("/login", url.Values{"key": {key}, "next": {next}})
		to, err := url.Parse(r.url)
		must(t, err)
		to, err = to.Parse(got.header.Get("Location"))
		must(t, err)
		if got.status != http.StatusSeeOther || "http://"+to.Host != r.url || to.Path != "/" {
			t.Errorf("next %q leads to %q", next, got.header.Get("Location"))
		}
		page := r.browser().get("/login?" + url.Values{"next": {next}}.Encode())
		if strings.Contains(page.body, "evil") && !strings.Contains(page.body, `value="/`) {
			t.Errorf("next %q is in the page:\n%s", next, page.body)
		}
	}
	for _, next := range []string{"/watches?metadata%5Bdeploy%5D=42", "/watches/watch_1#x", "/"} {
		got := r.browser().post("/login", url.Values{"key": {key}, "next": {next}})
		if at := got.header.Get("Location"); at != next {
			t.Errorf("next %q leads to %q", next, at)
		}
	}
}

// What the database's absence means is said in words, and under the same policy.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	b := r.signedIn(r.tenant, storage.ScopeRead)
	must(t, r.store.Close())
	for _, path := range []string{"/", "/watches"} {
		got := b.get(path)
		if got.status != http.StatusServiceUnavailable && got.status != http.StatusInternalServerError {
			t.Errorf("GET %s: %d\n%s", path, got.status, got.body)
		}
		got.wantPolicy(t, path)
		got.wantPage(t, path)
	}
}

// The API's requests for a page are logged as such, with the page's id, and a change at info with its key.
func TestLogOfPages(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	ids := r.things(r.tenant)
	b := r.signedIn(r.tenant, storage.ScopeWrite)
	before := len(r.log.String())
	if got := b.post("/watches/"+ids["watch"]+"/cancel", nil); got.status != http.StatusSeeOther {
		t.Fatalf("canceling: %d", got.status)
	}
	log := r.log.String()[before:]
	if lines := strings.Count(log, `"msg":"request"`); lines != 2 || strings.Count(log, `"level":"INFO"`) != 1 ||
		!strings.Contains(log, `"route":"/v1/watches/:watch_id"`) || !strings.Contains(log, `"console":true`) ||
		!strings.Contains(log, `"route":"/watches/{id}/cancel"`) || !strings.Contains(log, `"key_id":"key_`) {
		t.Errorf("%d lines:\n%s", lines, log)
	}
	_, id, _ := strings.Cut(log, `"request_id":"`)
	id, _, _ = strings.Cut(id, `"`)
	if strings.Count(log, fmt.Sprintf(`"request_id":%q`, id)) != 2 {
		t.Errorf("two ids:\n%s", log)
	}
}

// A key that is over its limit is told so in words, on the page that it asked for.
func TestAPageOverTheLimit(t *testing.T) {
	t.Parallel()
	r := newRelay(t, func(c *api.Config) {
		c.Limits = api.Limits{
			Counter: ratelimit.New(nil, slog.New(slog.DiscardHandler), time.Now),
			Key:     ratelimit.Rate{N: 4, Per: time.Hour},
		}
	})
	b := r.signedIn(r.tenant, storage.ScopeRead) // takes one
	if got := b.get("/watches"); got.status != http.StatusOK {
		t.Fatalf("within the limit: %d", got.status)
	}
	got := b.get("/watches")
	if got.status != http.StatusTooManyRequests || !strings.Contains(got.body, "Too many requests with this API key") || !strings.Contains(got.body, "Try again in") ||
		got.header.Get("Retry-After") == "" {
		t.Errorf("over the limit: %d\n%s", got.status, got.body)
	}
	got.wantPolicy(t, "GET /watches")
	got.wantPage(t, "GET /watches")
}
