package console_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"oprelay/storage"
)

const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// route is a path of the console that asks for a session. {watch} and the like stand for ids.
type route struct {
	pattern string
	path    string
	form    url.Values
	own     int           // the status for whoever may
	needs   storage.Scope // read if empty
	shared  bool          // it names nothing that belongs to a tenant
}

// sessionRoutes are all of them, in an order in which each can be done.
func sessionRoutes() []route {
	return []route{
		{pattern: "GET /{$}", path: "/", shared: true},
		{pattern: "GET /search", path: "/search?q={watch}", own: http.StatusSeeOther, shared: true},
		{pattern: "GET /watches", path: "/watches", shared: true},
		{pattern: "GET /watches/{id}", path: "/watches/{watch}"},
		{pattern: "GET /deliveries", path: "/deliveries", shared: true},
		{pattern: "GET /deliveries/{id}", path: "/deliveries/{delivery}"},
		{pattern: "GET /events", path: "/events", shared: true},
		{pattern: "GET /events/{id}", path: "/events/{event}"},
		{pattern: "GET /destinations", path: "/destinations", shared: true},
		{pattern: "GET /destinations/{id}", path: "/destinations/{destination}"},
		{pattern: "GET /destinations/{id}/recover", path: "/destinations/{destination}/recover", needs: storage.ScopeWrite},
		{pattern: "GET /credentials", path: "/credentials", shared: true},
		{pattern: "GET /credentials/{id}", path: "/credentials/{credential}"},
		{pattern: "GET /sources", path: "/sources", shared: true},
		{pattern: "GET /keys", path: "/keys", needs: storage.ScopeAdmin, shared: true},
		{pattern: "POST /keys", path: "/keys", form: url.Values{"name": {"n"}, "scope": {"read"}}, own: http.StatusCreated, needs: storage.ScopeAdmin, shared: true},
		{pattern: "POST /keys/{id}/revoke", path: "/keys/{key}/revoke", own: http.StatusSeeOther, needs: storage.ScopeAdmin},
		{pattern: "POST /deliveries/{id}/redeliver", path: "/deliveries/{delivery}/redeliver", own: http.StatusSeeOther, needs: storage.ScopeWrite},
		{pattern: "POST /destinations/{id}/test", path: "/destinations/{destination}/test", own: http.StatusSeeOther, needs: storage.ScopeWrite},
		{pattern: "POST /destinations/{id}/disable", path: "/destinations/{destination}/disable", own: http.StatusSeeOther, needs: storage.ScopeWrite},
		{pattern: "POST /destinations/{id}/enable", path: "/destinations/{destination}/enable", own: http.StatusSeeOther, needs: storage.ScopeWrite},
		{pattern: "POST /destinations/{id}/rotate-secret", path: "/destinations/{destination}/rotate-secret", form: url.Values{"overlap_seconds": {"3600"}}, needs: storage.ScopeWrite},
		{pattern: "POST /destinations/{id}/recover", path: "/destinations/{destination}/recover", form: url.Values{"since": {"2026-11-29T10:00:00Z"}}, own: http.StatusSeeOther, needs: storage.ScopeWrite},
		{pattern: "POST /watches/{id}/cancel", path: "/watches/{watch}/cancel", own: http.StatusSeeOther, needs: storage.ScopeWrite},
		{pattern: "POST /destinations/{id}/delete", path: "/destinations/{destination}/delete", own: http.StatusSeeOther, needs: storage.ScopeWrite},
		{pattern: "/", path: "/nothing", own: http.StatusNotFound, shared: true},
	}
}

// things are ids of one tenant.
type things map[string]string

func (r *relay) things(tenant storage.Tenant) things {
	r.t.Helper()
	_, key := r.key(tenant, storage.ScopeWrite)
	ids := things{}
	ids["credential"] = r.made(key, "/v1/credentials", `{"name":"cloudflare","api_token":"token"}`)
	ids["destination"] = r.made(key, "/v1/destinations", `{"type":"webhook","name":"hook","url":"`+publicURL+`"}`)
	ids["watch"] = r.made(key, "/v1/watches", watchBody(ids["credential"], ids["destination"]))
	ids["delivery"] = r.made(key, "/v1/destinations/"+ids["destination"]+"/test", "")
	listed, err := r.store.Events(r.t.Context(), storage.FeedFilter{TenantID: tenant.ID}, 1)
	must(r.t, err)
	ids["event"] = listed.Data[0].ID
	made, _ := r.key(tenant, storage.ScopeRead)
	ids["key"] = made.ID
	return ids
}

func watchBody(credentialID, destinationID string) string {
	return `{"operation_id":"` + operationID + `","account_id":"` + accountID + `","credential_id":"` + credentialID +
		`","destination_ids":["` + destinationID + `"]}`
}

// at is the path with ids.
func (ids things) at(path string) string {
	for name, id := range ids {
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	return path
}

// ask sends the route's request.
func (b *browser) ask(r route, ids things, changes ...func(*http.Request)) reply {
	b.r.t.Helper()
	method, _, ok := strings.Cut(r.pattern, " ")
	if !ok {
		method = http.MethodGet
	}
	request := httptest.NewRequestWithContext(b.r.t.Context(), method, b.r.url+ids.at(r.path), strings.NewReader(r.form.Encode()))
	request.RequestURI = ""
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, change := range changes {
		change(request)
	}
	return b.do(request)
}

// Every route is in the table above.
func TestEveryRouteIsTested(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"GET /live": true, "GET /login": true, "POST /login": true, "POST /logout": true, "GET /static/{file}": true}
	for _, r := range sessionRoutes() {
		known[r.pattern] = true
	}
	file, err := parser.ParseFile(token.NewFileSet(), "console.go", nil, 0)
	must(t, err)
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil && (text == "/" || strings.HasPrefix(text, "GET /") || strings.HasPrefix(text, "POST /")) {
				found++
				if !known[text] {
					t.Errorf("%s is not tested", text)
				}
			}
		}
		return true
	})
	if found < len(sessionRoutes()) {
		t.Errorf("found %d routes", found)
	}
}

// Without a session, whatever is asked leads to signing in, and changes nothing.
func TestRoutesWithoutSession(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	ids := r.things(r.tenant)
	expired := r.signedIn(r.tenant, storage.ScopeAdmin)
	r.clock.advance(storage.SessionTime)
	key, secret := r.key(r.tenant, storage.ScopeAdmin)
	revoked := r.browser()
	if got := revoked.post("/login", url.Values{"key": {secret}}); got.status != http.StatusSeeOther {
		t.Fatalf("signing in: %d", got.status)
	}
	must(t, r.store.RevokeKey(t.Context(), r.tenant.ID, key.ID))
	forged := func(value string) func(*http.Request) {
		return func(request *http.Request) { request.Header.Set("Cookie", "relay_session="+value) }
	}
	_, another := r.key(r.tenant, storage.ScopeAdmin)
	for name, ask := range map[string]func(route) reply{
		"no session":         func(a route) reply { return r.browser().ask(a, ids) },
		"a revoked key's":    func(a route) reply { return revoked.ask(a, ids) },
		"an expired session": func(a route) reply { return expired.ask(a, ids) },
		"a forged cookie":    func(a route) reply { return r.browser().ask(a, ids, forged("AAAA")) },
		"a key for a cookie": func(a route) reply { return r.browser().ask(a, ids, forged(another)) },
		"a key as for the API": func(a route) reply {
			return r.browser().ask(a, ids, func(request *http.Request) { request.Header.Set("Authorization", "Bearer "+another) })
		},
	} {
		for _, a := range append(sessionRoutes(), route{pattern: "GET /live", path: "/live"}) {
			got := ask(a)
			if a.pattern == "/" { // to sign in would not help
				if got.status != http.StatusNotFound {
					t.Errorf("%s with %s: %d", a.path, name, got.status)
				}
				continue
			}
			to, err := url.Parse(got.header.Get("Location"))
			must(t, err)
			if got.status != http.StatusSeeOther || to.Path != "/login" || to.Host != "" {
				t.Errorf("%s with %s: %d to %s", a.pattern, name, got.status, to)
			}
			if next := to.Query().Get("next"); strings.HasPrefix(a.pattern, "GET ") && a.path != "/" && next != ids.at(a.path) {
				t.Errorf("%s with %s: next is %q", a.pattern, name, next)
			}
			got.wantPolicy(t, a.pattern)
		}
	}
	admin := r.signedIn(r.tenant, storage.ScopeAdmin)
	if page := admin.get("/watches/" + ids["watch"]).body; !strings.Contains(page, `data-status="watching"`) {
		t.Errorf("the watch was changed:\n%s", page)
	}
}

// Whoever has the scope gets every route; who has not is refused in the API's words, and is offered nothing.
func TestRoutesByScope(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	scopes := []storage.Scope{storage.ScopeRead, storage.ScopeWrite, storage.ScopeAdmin}
	for _, scope := range scopes {
		ids := r.things(r.tenant)
		b := r.signedIn(r.tenant, scope)
		for _, a := range sessionRoutes() {
			may := a.needs == "" || (storage.Key{Scopes: []storage.Scope{scope}}).May(a.needs)
			want := http.StatusForbidden
			if may {
				want = max(a.own, http.StatusOK)
			}
			got := b.ask(a, ids)
			if got.status != want {
				t.Errorf("%s with %s: %d, want %d\n%s", a.pattern, scope, got.status, want, got.body)
			}
			if !may && !strings.Contains(got.body, "This needs a key with the scope "+string(a.needs)) {
				t.Errorf("%s with %s does not say which scope: %s", a.pattern, scope, got.body)
			}
			if !may && strings.Contains(r.page(b, ids), ids.at(`action="`+a.path)) {
				t.Errorf("%s is offered with %s", a.pattern, scope)
			}
			got.wantPolicy(t, a.pattern)
			got.wantPage(t, a.pattern)
		}
	}
}

// page is all pages that offer actions.
func (r *relay) page(b *browser, ids things) string {
	r.t.Helper()
	var all strings.Builder
	for _, path := range []string{"/watches/{watch}", "/deliveries/{delivery}", "/destinations/{destination}", "/keys"} {
		all.WriteString(b.get(ids.at(path)).body)
	}
	return all.String()
}

// What belongs to another tenant does not exist.
func TestRoutesOfAnotherTenant(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	other, err := r.store.EnsureTenant(t.Context(), "other")
	must(t, err)
	ids := r.things(r.tenant)
	b := r.signedIn(other, storage.ScopeAdmin)
	for _, a := range sessionRoutes() {
		got := b.ask(a, ids)
		if !a.shared && got.status != http.StatusNotFound {
			t.Errorf("%s: %d", a.pattern, got.status)
		}
		for name, id := range ids {
			if a.shared && a.pattern != "GET /search" && strings.Contains(got.body, id) {
				t.Errorf("%s shows the other tenant's %s", a.pattern, name)
			}
		}
		got.wantPolicy(t, a.pattern)
		got.wantPage(t, a.pattern)
	}
	if page := r.signedIn(r.tenant, storage.ScopeAdmin).get("/watches/" + ids["watch"]).body; !strings.Contains(page, `data-status="watching"`) {
		t.Errorf("the watch was changed:\n%s", page)
	}
}

// What another site posts is refused, whatever cookie comes with it.
func TestCrossOriginPosts(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	ids := r.things(r.tenant)
	b := r.signedIn(r.tenant, storage.ScopeAdmin)
	posts := slices.DeleteFunc(sessionRoutes(), func(a route) bool { return !strings.HasPrefix(a.pattern, "POST ") })
	posts = append(posts, route{pattern: "POST /login", path: "/login"}, route{pattern: "POST /logout", path: "/logout"})
	for name, headers := range map[string]map[string]string{
		"of another site":              {"Sec-Fetch-Site": "cross-site"},
		"of a sister host":             {"Sec-Fetch-Site": "same-site"},
		"of an older browser":          {"Origin": "https://evil.example"},
		"of a page without an address": {"Origin": "null"},
	} {
		for _, a := range posts {
			got := b.ask(a, ids, func(request *http.Request) {
				for name, value := range headers {
					request.Header.Set(name, value)
				}
			})
			if got.status != http.StatusForbidden || !strings.Contains(got.body, "another site") {
				t.Errorf("%s %s: %d\n%s", a.pattern, name, got.status, got.body)
			}
			got.wantPolicy(t, a.pattern)
		}
	}
	if got := b.ask(route{pattern: "POST /", path: "/watches/{watch}/cancel"}, ids, func(request *http.Request) {
		request.Header.Set("Sec-Fetch-Site", "same-origin")
		request.Header.Set("Origin", r.url)
	}); got.status != http.StatusSeeOther {
		t.Errorf("the console's own form: %d\n%s", got.status, got.body)
	}
}

// A session opens the console alone.
func TestSessionOpensNoAPI(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	b := r.signedIn(r.tenant, storage.ScopeAdmin)
	for _, path := range []string{"/v1/watches", "/v1/keys", "/v1/events/stream"} {
		if got := b.get(path); got.status != http.StatusUnauthorized {
			t.Errorf("GET %s with a session's cookie: %d", path, got.status)
		}
	}
}

// wantPolicy holds what every answer of the console carries.
func (a reply) wantPolicy(t *testing.T, name string) {
	t.Helper()
	for header, want := range map[string]string{
		"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
	} {
		if got := a.header.Values(header); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %s: %q", name, header, got)
		}
	}
}

// wantPage holds what every page is like: one <h1>, no inline scripts or styles, labels, names of what moves.
func (a reply) wantPage(t *testing.T, name string) {
	t.Helper()
	if a.status/100 == 3 {
		return
	}
	page, err := html.Parse(strings.NewReader(a.body))
	must(t, err)
	headings := 0
	for n := range page.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		attributes := map[string]string{}
		for _, attribute := range n.Attr {
			attributes[attribute.Key] = attribute.Val
			if attribute.Key == "style" || strings.HasPrefix(attribute.Key, "on") {
				t.Errorf("%s: <%s %s=%q>", name, n.Data, attribute.Key, attribute.Val)
			}
		}
		switch n.Data {
		case "h1":
			headings++
		case "style":
			t.Errorf("%s has a style inside", name)
		case "script":
			if attributes["src"] == "" || n.FirstChild != nil {
				t.Errorf("%s has a script inside", name)
			}
		case "time":
			if attributes["datetime"] == "" || attributes["title"] == "" {
				t.Errorf("%s: a time without its moment", name)
			}
		}
		if attributes["data-watch-id"] != "" && attributes["data-status"] == "" {
			t.Errorf("%s: <%s> of a watch has no data-status", name, n.Data)
		}
	}
	if headings != 1 {
		t.Errorf("%s has %d <h1>:\n%s", name, headings, a.body)
	}
}
