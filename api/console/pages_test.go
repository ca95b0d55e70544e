package console_test

import (
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/storage"
)

// Each page shows what there is, in words of the API.
func TestPagesOfMessages(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	credential := r.made(key, "/v1/credentials", `{"name":"production","api_token":"token"}`)
	destination := r.made(key, "/v1/destinations", `{"type":"webhook","name":"deploys","url":"`+publicURL+`","headers":{"X-Team":"a"}}`)
	delivery := r.made(key, "/v1/destinations/"+destination+"/test", "{}")
	b := r.signedIn(r.tenant, storage.ScopeAdmin)
	for path, want := range map[string][]string{
		"/destinations":                 {"deploys", publicURL, "enabled"},
		"/destinations/" + destination:  {"Send a test", "Rotate the secret", "X-Team: ••••", delivery, "All deliveries"},
		"/deliveries":                   {delivery, "destination.test", "deploys"},
		"/deliveries?status=pending":    {delivery},
		"/deliveries?status=failed":     {"No delivery matches"},
		"/deliveries/" + delivery:       {"deploys", "Redeliver", "webhook-id: event_", "&#34;type&#34;:&#34;destination.test&#34;"},
		"/events":                       {"destination.test", "an hour"},
		"/events?type=operation.failed": {"Nothing has happened"},
		"/credentials":                  {"production", "active"},
		"/credentials/" + credential:    {"production", "by an API token"},
		"/keys":                         {"New key", "this session", "Revoke"},
	} {
		got := b.get(path)
		if got.status != http.StatusOK {
			t.Errorf("GET %s: %d", path, got.status)
		}
		for _, text := range want {
			if !strings.Contains(got.body, text) {
				t.Errorf("GET %s: no %q in\n%s", path, text, got.body)
			}
		}
	}
	if got := b.get("/deliveries?status=lost"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "?status") {
		t.Errorf("a status that is none: %d\n%s", got.status, got.body)
	}
}

// A list without rows shows the next command.
func TestEmptyLists(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	b := r.signedIn(r.tenant, storage.ScopeRead)
	for path, want := range map[string]string{
		"/destinations": "/v1/destinations", "/credentials": "/v1/credentials", "/deliveries": "/test",
	} {
		if got := b.get(path); !strings.Contains(got.body, "curl") || !strings.Contains(got.body, r.url+"/v1") || !strings.Contains(got.body, want) {
			t.Errorf("GET %s: %s", path, got.body)
		}
	}
}

func TestDestinationActions(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	destination := r.made(key, "/v1/destinations", `{"type":"webhook","name":"deploys","url":"`+publicURL+`"}`)
	b := r.signedIn(r.tenant, storage.ScopeWrite)
	path := "/destinations/" + destination
	act := func(action string, form url.Values, wantAt string) {
		t.Helper()
		got := b.post(path+action, form)
		if at := got.header.Get("Location"); got.status != http.StatusSeeOther || !strings.HasPrefix(at, wantAt) {
			t.Errorf("%s: %d to %q\n%s", action, got.status, at, got.body)
		}
	}
	act("/disable", nil, path)
	if page := b.get(path).body; !strings.Contains(page, "somebody disabled it") || !strings.Contains(page, "Enable") {
		t.Errorf("disabled: %s", page)
	}
	act("/test", nil, "/deliveries/delivery_")
	if page := b.get(path).body; !strings.Contains(page, "1 delivery") {
		t.Errorf("with a delivery held: %s", page)
	}
	act("/enable", nil, path)

	form := url.Values{"overlap_seconds": {"60"}, "once": {"once"}}
	first, again := b.post(path+"/rotate-secret", form), b.post(path+"/rotate-secret", form)
	if _, secret, _ := strings.Cut(first.body, "whsec_"); first.status != http.StatusOK || secret == "" || !strings.Contains(again.body, secret[:40]) {
		t.Errorf("rotate: %d %s\nagain: %s", first.status, first.body, again.body)
	}
	if got := b.post(path+"/rotate-secret", url.Values{"overlap_seconds": {"soon"}}); got.status != http.StatusUnprocessableEntity {
		t.Errorf("an overlap that is none: %d", got.status)
	}
	if got := b.get(path + "/recover"); got.status != http.StatusOK || !strings.Contains(got.body, "<strong>1</strong> message was") {
		t.Errorf("what can be recovered: %d %s", got.status, got.body)
	}
	if got := b.get(path + "/recover?since=" + url.QueryEscape(r.clock.Now().Add(time.Hour).Format(time.RFC3339))); !strings.Contains(got.body, "has accepted every message") {
		t.Errorf("of a time to come: %s", got.body)
	}
	if got := b.get(path + "/recover?since=yesterday"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "/since") {
		t.Errorf("since yesterday: %d %s", got.status, got.body)
	}
	act("/recover", url.Values{"since": {r.clock.Now().Add(-time.Hour).Format(time.RFC3339)}}, path)
	act("/delete", nil, "/destinations")
	if got := b.get(path); got.status != http.StatusNotFound {
		t.Errorf("deleted: %d", got.status)
	}
}

func TestKeyActions(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	b := r.signedIn(r.tenant, storage.ScopeAdmin)
	made := b.post("/keys", url.Values{"name": {"ci"}, "scope": {"read"}})
	_, key, _ := strings.Cut(made.body, `<pre id="secret" tabindex="0">`)
	key, _, _ = strings.Cut(key, "<")
	if made.status != http.StatusCreated || !strings.HasPrefix(key, "relay_") {
		t.Fatalf("%d %s", made.status, made.body)
	}
	theirs := r.browser()
	if got := theirs.post("/login", url.Values{"key": {key}}); got.status != http.StatusSeeOther {
		t.Errorf("the new key does not sign in: %d", got.status)
	}
	if page := theirs.get("/keys"); page.status != http.StatusForbidden || strings.Contains(theirs.get("/").body, `href="/keys"`) {
		t.Errorf("with a read-only key: %d", page.status)
	}
	page := b.get("/keys").body
	_, row, _ := strings.Cut(page, "<span>ci")
	_, id, _ := strings.Cut(row, "/keys/")
	id, _, _ = strings.Cut(id, "/")
	if got := b.post("/keys/"+id+"/revoke", nil); got.status != http.StatusSeeOther {
		t.Errorf("revoke %q: %d", id, got.status)
	}
	if got := theirs.get("/watches"); got.status != http.StatusSeeOther || got.header.Get("Location") != "/login?next=%2Fwatches" {
		t.Errorf("the session of a revoked key: %d", got.status)
	}
}

// The list of events begins with the shortest span in which something has happened.
func TestEventsBeginLate(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	destination := r.made(key, "/v1/destinations", `{"type":"webhook","name":"deploys","url":"`+publicURL+`"}`)
	b := r.signedIn(r.tenant, storage.ScopeRead)
	rows := func(path string) int {
		t.Helper()
		got := b.get(path)
		if got.status != http.StatusOK {
			t.Errorf("%s: %d", path, got.status)
		}
		return strings.Count(got.body, `<tr data-key="event_`)
	}
	since := "/events?since=" + url.QueryEscape(r.clock.Now().Truncate(time.Minute).Format(time.RFC3339))
	test := func() { r.made(key, "/v1/destinations/"+destination+"/test", "{}") }
	test()
	r.clock.advance(30 * time.Minute)
	if n := rows("/events"); n != 1 {
		t.Errorf("%d rows of half an hour ago", n)
	}
	test()
	if now, all := rows("/events"), rows(since); now != 1 || all != 2 {
		t.Errorf("%d rows of now, %d of all", now, all)
	}
}

// The list of events goes on from page to page, in order, with its filter.
func TestPagesOfEvents(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	destination := r.made(key, "/v1/destinations", `{"type":"webhook","name":"deploys","url":"`+publicURL+`"}`)
	for range 3 {
		r.made(key, "/v1/destinations/"+destination+"/test", "{}")
	}
	b := r.signedIn(r.tenant, storage.ScopeRead)
	var seen []string
	next := "/events?type=destination.test&limit=1"
	for next != "" {
		page := b.get(next)
		_, row, found := strings.Cut(page.body, `<tr data-key="event_`)
		if page.status != http.StatusOK || !found {
			break // the last page may be empty
		}
		id, _, _ := strings.Cut(row, `"`)
		seen = append(seen, id)
		_, after, more := strings.Cut(page.body, `rel="next"`)
		before, _, _ := strings.Cut(page.body, `" rel="next"`)
		next = ""
		if more && after != "" {
			next = html.UnescapeString(before[strings.LastIndex(before, `href="`)+len(`href="`):])
		}
	}
	if len(seen) != 3 || !slices.IsSorted(seen) {
		t.Errorf("the pages show %q", seen)
	}
}

// A page of the feed that retention has deleted says so, and leads to what is kept.
func TestEventsThatAreGone(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	destination := r.made(key, "/v1/destinations", `{"type":"webhook","name":"deploys","url":"`+publicURL+`"}`)
	for range 3 {
		r.made(key, "/v1/destinations/"+destination+"/test", "{}")
	}
	must(t, r.store.ForceDeleteDestination(t.Context(), r.tenant.ID, destination)) // so that none waits
	b := r.signedIn(r.tenant, storage.ScopeRead)
	_, next, _ := strings.Cut(b.get("/events?limit=1").body, `<a href="/events?cursor=`)
	next, _, _ = strings.Cut(next, `"`)
	r.clock.advance(time.Hour)
	for range 3 {
		if _, err := r.store.DeleteOld(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	got := b.get("/events?cursor=" + html.UnescapeString(next))
	if got.status != http.StatusGone || !strings.Contains(got.body, "This part of the feed has been deleted") || !strings.Contains(got.body, "From the start") {
		t.Errorf("%d\n%s", got.status, got.body)
	}
}
