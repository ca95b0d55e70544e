package console_test

import (
	"bufio"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/storage"
)

// set registers a watch with the fields beside those that each has, and destinations of these names.
func (r *relay) set(fields string, names ...string) (watch string, destinations []string) {
	r.t.Helper()
	_, key := r.key(r.tenant, storage.ScopeWrite)
	credential := r.made(key, "/v1/credentials", `{"name":"production","api_token":"token"}`)
	for _, name := range names {
		destinations = append(destinations, r.made(key, "/v1/destinations", `{"type":"webhook","name":"`+name+`","url":"`+publicURL+`"}`))
	}
	list := "[]"
	if len(destinations) > 0 {
		list = `["` + strings.Join(destinations, `","`) + `"]`
	}
	return r.made(key, "/v1/watches", `{"operation_id":"`+operationID+`","account_id":"`+accountID+`","credential_id":"`+credential+
		`","destination_ids":`+list+fields+`}`), destinations
}

// text is what a page says, without markup.
func (a reply) text() string {
	_, body, _ := strings.Cut(a.body, "<main")
	plain := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")
	return strings.Join(strings.Fields(html.UnescapeString(plain)), " ")
}

// inOrder says which of the texts comes not after the one before it.
func (a reply) inOrder(t *testing.T, texts ...string) {
	t.Helper()
	rest := a.text()
	for _, text := range texts {
		at := strings.Index(rest, text)
		if at < 0 {
			t.Errorf("no %q in its place in\n%s", text, a.text())
			return
		}
		rest = rest[at+len(text):]
	}
}

// A watch is one timeline, in order, with what comes next.
func TestTimeline(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	watch, destinations := r.set(`,"name":"deploy 42","events":["operation.failed"],"metadata":{"team":"edge"}`, "hook", "off")
	b := r.signedIn(r.tenant, storage.ScopeWrite)
	if got := b.post("/destinations/"+destinations[1]+"/disable", nil); got.status != http.StatusSeeOther {
		t.Fatalf("disable: %d", got.status)
	}
	b.get("/watches/"+watch).inOrder(t,
		"deploy 42", "watching", watch, "Cancel watch", operationID, accountID, "team", "edge",
		"Registered", "production", "hook", "off", "Tells nobody of operation.completed", "off is disabled", "Next: a poll", "expires in")
	r.clock.advance(3 * time.Second)
	r.ends("the list is full", "try later")
	r.clock.advance(4 * time.Second)
	page := b.get("/watches/" + watch)
	page.inOrder(t,
		"deploy 42", "failed", "Registered 7 s ago", "Asked 1 time, last 4 s ago", "failed", "Ended 4 s ago", "3 s after", "the list is full",
		"Event operation.failed", "The webhook's body", `{"type":"operation.failed","timestamp":"`,
		"pending Delivery to hook", "Attempt 1, 4 s ago", "502", "try later", "What came back", "try later", "Next: another attempt in 56 s", "Redeliver",
		"held Delivery to off", "Next: held until the destination is enabled", "Redeliver")
	if !strings.Contains(page.body, `data-watch-id="`+watch+`" data-status="failed" data-refresh="57"`) {
		t.Errorf("it does not say when to look again:\n%s", page.body)
	}
	stored, err := r.store.Watch(t.Context(), r.tenant.ID, watch)
	must(t, err)
	event, err := r.store.Event(t.Context(), r.tenant.ID, stored.EventID)
	must(t, err)
	if !strings.Contains(html.UnescapeString(page.body), "<pre id=\"body\" tabindex=\"0\">"+string(event.Body)+"</pre>") {
		t.Errorf("the body is not what webhooks get, %s:\n%s", event.Body, page.body)
	}
	r.wantRedelivered(b, watch)
}

// wantRedelivered redelivers from the watch's page, by the form that is there, twice.
func (r *relay) wantRedelivered(b *browser, watch string) {
	r.t.Helper()
	page := b.get("/watches/" + watch).body
	form := regexp.MustCompile(`action="(/deliveries/[^"]+)">\s*<input type="hidden" name="once" value="([^"]+)">\s*<input type="hidden" name="back" value="([^"]+)">`)
	found := form.FindStringSubmatch(page)
	if found == nil {
		r.t.Fatalf("no form to redeliver in\n%s", page)
	}
	var said string
	for range 2 {
		got := b.post(found[1], map[string][]string{"once": {found[2]}, "back": {found[3]}})
		if at := got.header.Get("Location"); got.status != http.StatusSeeOther || !strings.HasPrefix(at, "/watches/"+watch+"?done=redelivered.") {
			r.t.Errorf("redelivering: %d to %s\n%s", got.status, at, got.body)
		}
		said = got.header.Get("Location")
	}
	if page := b.get(said); !strings.Contains(page.text(), "on its way again") {
		r.t.Errorf("it is not said:\n%s", page.body)
	}
	_, mark, _ := strings.Cut(said, "?")
	for _, forged := range []string{"/watches/" + watch + "?done=redelivered", "/watches/" + watch + "?done=redelivered.", "/destinations?" + mark} {
		if page := b.get(forged); strings.Contains(page.text(), "on its way again") {
			r.t.Errorf("%s says so", forged)
		}
	}
}

// An event that the watch's events leave out is shown, and that nobody is told; so is a watch without destinations.
func TestTimelineOfWhatNobodyIsTold(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	left, _ := r.set(`,"events":["operation.completed"]`, "hook")
	b := r.signedIn(r.tenant, storage.ScopeRead)
	if page := b.get("/watches/" + left).text(); strings.Contains(page, "Cancel watch") {
		t.Errorf("a key that only reads is offered to cancel:\n%s", page)
	}
	r.ends("the list is full", "")
	b.get("/watches/"+left).inOrder(t, "Registered", "Tells nobody of operation.failed", "Ended", "failed", "Event operation.failed", "Nobody is told")
}

func TestTimelineOfACanceledWatch(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	watch, _ := r.set("")
	b := r.signedIn(r.tenant, storage.ScopeWrite)
	b.get("/watches/"+watch).inOrder(t, "cloudflare.lists "+operationID, "Tells no destination", "relay wait "+watch)
	got := b.post("/watches/"+watch+"/cancel", nil)
	if got.status != http.StatusSeeOther {
		t.Fatalf("cancel: %d", got.status)
	}
	b.get(got.header.Get("Location")).inOrder(t, "The watch is canceled", "canceled", "Ended", "canceled", "Nobody is told")
}

// Who cancels a watch that has ended meanwhile is not told that it is canceled.
func TestCanceledTooLate(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	watch, _ := r.set("", "hook")
	b := r.signedIn(r.tenant, storage.ScopeWrite)
	r.ends("the list is full", "")
	got := b.post("/watches/"+watch+"/cancel", nil)
	page := b.get(got.header.Get("Location")).text()
	if !strings.Contains(page, "had ended before") || strings.Contains(page, "The watch is canceled") {
		t.Errorf("%d\n%s", got.status, page)
	}
}

// A page makes a bounded number of requests to the API, however much there is.
func TestRequestsOfAPage(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprint("hook", i))
	}
	watch, _ := r.set("", names...)
	b := r.signedIn(r.tenant, storage.ScopeAdmin)
	r.ends("the list is full", "try later")
	for path, most := range map[string]int{"/": 8, "/watches": 3, "/watches/" + watch: 25} {
		before := len(r.log.String())
		b.get(path)
		if asked := strings.Count(r.log.String()[before:], `"console":true`); asked == 0 || asked > most {
			t.Errorf("GET %s asks the API %d times, want at most %d", path, asked, most)
		}
	}
}

// What needs somebody is on the overview.
func TestOverview(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	b := r.signedIn(r.tenant, storage.ScopeWrite)
	b.get("/").inOrder(t, "Overview", "Begin in three steps", "/v1/credentials", "/v1/destinations", "relay watch")
	watch, destinations := r.set(`,"name":"deploy 42"`, "hook", "off")
	b.get("/").inOrder(t, "Nothing does", "Watched now", "deploy 42", "Ended last", "Nothing has ended yet")
	if got := b.post("/destinations/"+destinations[1]+"/disable", nil); got.status != http.StatusSeeOther {
		t.Fatalf("disable: %d", got.status)
	}
	r.clock.advance(5 * time.Minute)
	b.get("/").inOrder(t, "Needs somebody", "disabled off", "somebody disabled it", "late 1 watch", "is a worker running?", "Watched now", "deploy 42", "late")
	r.ends("the list is full", "try later")
	page := b.get("/")
	page.inOrder(t, "Needs somebody", "failing hook", "try later", "Watched now", "Nothing is watched now", "relay watch", "Ended last", "deploy 42", "failed")
	if !strings.Contains(page.body, `<tr data-watch-id="`+watch+`" data-status="failed">`) {
		t.Errorf("the watch's row has no name:\n%s", page.body)
	}
}

// Search leads to what is searched for.
func TestSearch(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	b := r.signedIn(r.tenant, storage.ScopeRead)
	for q, want := range map[string]string{
		"watch_01jd8p5kzve6wbdq8rfg0m3c7x":    "/watches/watch_01jd8p5kzve6wbdq8rfg0m3c7x",
		" event_01jd8p5kzve6wbdq8rfg0m3c7x ":  "/events/event_01jd8p5kzve6wbdq8rfg0m3c7x",
		"delivery_01jd8p5kzve6wbdq8rfg0m3c7x": "/deliveries/delivery_01jd8p5kzve6wbdq8rfg0m3c7x",
		"destination_01jd8p5kzve6wbdq8rfg0m3": "/destinations/destination_01jd8p5kzve6wbdq8rfg0m3",
		"credential_01jd8p5kzve6wbdq8rfg0m3c": "/credentials/credential_01jd8p5kzve6wbdq8rfg0m3c",
		operationID:                           "/watches?operation_id=" + operationID,
		"deploy=42":                           "/watches?metadata%5Bdeploy%5D=42",
		"team = a b":                          "/watches?metadata%5Bteam%5D=a+b",
		"":                                    "/watches",
		"https://a.example/op?api-version=1":  "/watches?operation_id=https%3A%2F%2Fa.example%2Fop%3Fapi-version%3D1",
		"watch_/../../x":                      "/watches/watch_%2F..%2F..%2Fx",
		"//evil.example":                      "/watches?operation_id=%2F%2Fevil.example",
	} {
		got := b.get("/search?" + url.Values{"q": {q}}.Encode())
		if at := got.header.Get("Location"); got.status != http.StatusSeeOther || at != want {
			t.Errorf("search for %q: %d to %q, want %q", q, got.status, at, want)
		}
	}
}

// An operation's id may look like metadata: it is one where it is watched.
func TestSearchForAnOperationLikeMetadata(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	credential := r.made(key, "/v1/credentials", `{"name":"ci","upstream":"github","api_token":"token"}`)
	r.made(key, "/v1/watches", `{"source":"github.run","operation_id":"op?v=1","params":{"repo":"hello","owner":"octocat"},"credential_id":"`+
		credential+`","destination_ids":[]}`)
	b := r.signedIn(r.tenant, storage.ScopeRead)
	for q, want := range map[string]string{"op%3Fv%3D1": "/watches?operation_id=op%3Fv%3D1", "op%3Fv%3D2": "/watches?metadata%5Bop%3Fv%5D=2"} {
		if at := b.get("/search?q=" + q).header.Get("Location"); at != want {
			t.Errorf("search for %s leads to %q, want %q", q, at, want)
		}
	}
	b.get("/watches?operation_id=nothing").inOrder(t, "No watch matches", "metadata as KEY=VALUE")
}

// Metadata that is no key with its value is refused, and stays to be mended.
func TestFilterByNoMetadata(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	watch, _ := r.set(`,"metadata":{"deploy":"42"}`)
	b := r.signedIn(r.tenant, storage.ScopeRead)
	for _, wrong := range []string{"deploy", "deploy=", "=42"} {
		page := b.get("/watches?metadata=" + url.QueryEscape(wrong))
		if page.status != http.StatusUnprocessableEntity || strings.Contains(page.body, watch) || !strings.Contains(page.body, `value="`+wrong+`"`) ||
			!strings.Contains(page.text(), "has to be a key and its value") {
			t.Errorf("%s: %d\n%s", wrong, page.status, page.body)
		}
	}
}

// Filters are the API's, in the URL: what a form sends becomes that.
func TestFilters(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	watch, destinations := r.set(`,"metadata":{"deploy":"42"}`, "hook")
	b := r.signedIn(r.tenant, storage.ScopeRead)
	form := "/watches?status=watching&status=failed&operation_id=&account_id=" + accountID + "&destination_id=" + destinations[0] +
		"&metadata=deploy%3D42&created_after=2026-01-01T10%3A00&created_before="
	got := b.get(form)
	want := "/watches?account_id=" + accountID + "&created_after=2026-01-01T10%3A00%3A00Z&destination_id=" + destinations[0] +
		"&metadata%5Bdeploy%5D=42&status=watching%2Cfailed"
	if at := got.header.Get("Location"); got.status != http.StatusSeeOther || at != want {
		t.Fatalf("%d to %q, want %q", got.status, at, want)
	}
	page := b.get(want)
	for _, text := range []string{
		watch, `value="watching" checked`, `value="failed" checked`, `value="completed"> completed`, `value="deploy=42"`, `value="2026-01-01T10:00"`,
		`value="` + destinations[0] + `" selected`,
	} {
		if !strings.Contains(page.body, text) {
			t.Errorf("no %q in\n%s", text, page.body)
		}
	}
	if page := b.get("/watches?metadata%5Bdeploy%5D=43"); !strings.Contains(page.text(), "No watch matches these filters") || strings.Contains(page.body, watch) {
		t.Errorf("another value:\n%s", page.body)
	}
	if page := b.get("/watches?account_id=xyz"); page.status != http.StatusUnprocessableEntity ||
		!strings.Contains(page.text(), "?account_id") || !strings.Contains(page.body, `value="xyz"`) {
		t.Errorf("a wrong value: %d\n%s", page.status, page.body)
	}
}

// Pages of a list lead to each other.
func TestOlderPages(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	for range 3 {
		r.set("")
	}
	b := r.signedIn(r.tenant, storage.ScopeRead)
	next := regexp.MustCompile(`<a href="([^"]+)" rel="next">`)
	var seen []string
	for path := "/watches?limit=1"; path != ""; {
		page := b.get(path).body
		seen = append(seen, regexp.MustCompile(`data-watch-id="([^"]+)"`).FindStringSubmatch(page)[1])
		path = ""
		if found := next.FindStringSubmatch(page); found != nil {
			path = html.UnescapeString(found[1])
		}
	}
	if slices.Sort(seen); len(slices.Compact(seen)) != 3 {
		t.Errorf("seen %q", seen)
	}
}

// Signing out ends what the session's pages listen to.
func TestLiveEndsWithItsSession(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	r.site.CheckLiveEvery(time.Millisecond)
	b := r.signedIn(r.tenant, storage.ScopeRead)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/live", nil)
	must(t, err)
	response, err := b.client.Do(request)
	must(t, err)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	if !lines.Scan() {
		t.Fatalf("it ends before: %v", lines.Err())
	}
	if got := b.post("/logout", nil); got.status != http.StatusSeeOther {
		t.Fatalf("signing out: %d", got.status)
	}
	for lines.Scan() { // until it ends
	}
	must(t, t.Context().Err())
}

// The stream reaches the page under its session, and ends with the key.
func TestLive(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	b := r.signedIn(r.tenant, storage.ScopeRead)
	r.store.SetOnChange(r.server.Changed)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/live", nil)
	must(t, err)
	response, err := b.client.Do(request)
	must(t, err)
	defer response.Body.Close()
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("%d %s", response.StatusCode, got)
	}
	reply{header: response.Header}.wantPolicy(t, "GET /live")
	watch, _ := r.set("")
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data:") && strings.Contains(lines.Text(), watch) {
			return
		}
	}
	t.Errorf("the stream ended: %v", lines.Err())
}
