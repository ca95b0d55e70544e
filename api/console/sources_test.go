package console_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"oprelay/api"
	"oprelay/storage"
)

// testSources are a few sources; the real ones are in jobs, which the API does not know.
type testSources []api.Source

func sources() testSources {
	source := func(name, title string, auth []string, params ...string) api.Source {
		upstream, _, _ := strings.Cut(name, ".")
		made := api.Source{
			Name: name, Upstream: upstream, Title: title, Docs: "https://" + upstream + ".example/docs", Auth: auth, Params: []api.SourceParam{},
			OperationID: api.SourceOperationID{Pattern: "[0-9a-f]+", Example: operationID},
		}
		for _, param := range params {
			made.Params = append(made.Params, api.SourceParam{Name: param, Pattern: "[a-z0-9]+", Example: "some" + param, Required: true})
		}
		return made
	}
	outside := source("acme.job", hostile, []string{"header:X-Key", "basic"})
	outside.Docs = "javascript:alert(1)"
	outside.OperationID = api.SourceOperationID{Pattern: hostile, Example: hostile}
	return testSources{
		outside,
		source("cloudflare.lists", "Lists bulk operation", []string{"bearer", "cloudflare_key"}, "account_id"),
		source("github.run", "Actions workflow run", []string{"bearer"}, "owner", "repo"),
		source("open.job", "Open job", []string{"none"}),
	}
}

// All implements api.Sources.
func (s testSources) All() []api.Source { return s }

// Find implements api.Sources.
func (s testSources) Find(name string) (api.Source, bool) {
	at := slices.IndexFunc(s, func(source api.Source) bool { return source.Name == name })
	if at < 0 {
		return api.Source{}, false
	}
	return s[at], true
}

// Check implements api.Sources; nothing is wrong.
func (testSources) Check(string, string, map[string]string) map[string]string { return nil }

// Auth implements api.Sources.
func (s testSources) Auth(upstream string) []string {
	at := slices.IndexFunc(s, func(source api.Source) bool { return source.Upstream == upstream })
	if at < 0 {
		return nil
	}
	return s[at].Auth
}

// What can be watched is shown, each with what it needs and the command.
func TestSources(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	page := r.signedIn(r.tenant, storage.ScopeRead).get("/sources")
	page.inOrder(t,
		"Sources", "acme.job", "of acme : an API token, in the header X-Key, or a user name with its password", "relay watch OPERATION_ID --source acme.job \\ --credential",
		"cloudflare.lists Lists bulk operation", "Operation id [0-9a-f]+ , such as "+operationID, "account_id [a-z0-9]+ , such as someaccount_id",
		"an API token, or an email with its API key", "https://cloudflare.example/docs", "--source cloudflare.lists --account ACCOUNT_ID \\ --credential",
		"github.run Actions workflow run", "owner", "repo", "--source github.run --param owner=OWNER --param repo=REPO \\ --credential CREDENTIAL_ID",
		"Open job", "no secret")
	for _, want := range []string{`<a href="/sources" aria-current="page">`, `<a href="https://github.example/docs" rel="noopener">`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("no %q in\n%s", want, page.body)
		}
	}
	if strings.Contains(page.body, `href="javascript:`) {
		t.Errorf("a link that runs:\n%s", page.body)
	}
}

// An operation of any source shows its parameters by their names, and the upstream's own word.
func TestOperationOfAnotherSource(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	credential := r.made(key, "/v1/credentials", `{"name":"ci","upstream":"github","api_token":"token"}`)
	watch := r.made(key, "/v1/watches", `{"source":"github.run","operation_id":"30433642","params":{"repo":"hello","owner":"octocat"},"credential_id":"`+
		credential+`","destination_ids":[],"name":"deploy 42"}`)
	lists, _ := r.set("")
	b := r.signedIn(r.tenant, storage.ScopeRead)
	b.get("/watches/"+watch).inOrder(t, "Source github.run Owner octocat Repo hello Upstream says not seen yet Timeline", "Registered")
	b.get("/watches/"+lists).inOrder(t, "Source cloudflare.lists Account "+accountID+" Upstream says not seen yet")
	b.get("/watches?source=github.run").inOrder(t, "deploy 42", "not seen yet github.run, owner octocat , repo hello")
	b.get("/").inOrder(t, "Watched now", "deploy 42", "not seen yet github.run, owner octocat , repo hello")
	r.ends("the step failed", "")
	b.get("/watches/"+watch).inOrder(t, "Upstream says failed (in its words: "+upstreamWord, "The last answer: failed (in its words: "+upstreamWord, "the step failed")
	b.get("/watches?source=github.run").inOrder(t, "deploy 42", "failed (in its words: "+upstreamWord)
	b.get("/credentials").inOrder(t, "ci", "github by an API token")
	b.get("/credentials/"+credential).inOrder(t, "github , by an API token")
}

// An operation's id may be a URL of 4 KB: lists show its beginning, its own page all of it.
func TestLongOperationID(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	credential := r.made(key, "/v1/credentials", `{"name":"open","upstream":"open"}`)
	long, param := "https://open.example/"+strings.Repeat("a", 4000), strings.Repeat("b", 500)
	watch := r.made(key, "/v1/watches", `{"source":"open.job","operation_id":"`+long+`","params":{"p":"`+param+`"},"credential_id":"`+credential+
		`","destination_ids":[]}`)
	b := r.signedIn(r.tenant, storage.ScopeRead)
	for path, whole := range map[string]bool{"/": false, "/watches": false, "/watches/" + watch: true} {
		page := b.get(path).text()
		if !strings.Contains(page, long[:100]) || !strings.Contains(page, param[:100]) || strings.Contains(page, long) != whole ||
			strings.Contains(page, param) != whole {
			t.Errorf("GET %s: want the whole id and parameter: %v, got\n%s", path, whole, page)
		}
	}
	if got := b.get("/search?q=" + url.QueryEscape(long)); !strings.Contains(b.get(got.header.Get("Location")).body, watch) {
		t.Errorf("the search for it leads to %s", got.header.Get("Location"))
	}
}

// The filter offers the sources that there are, and the one of old watches that is gone.
func TestFilterBySource(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	watch, _ := r.set("")
	b := r.signedIn(r.tenant, storage.ScopeRead)
	for source, shown := range map[string]bool{"cloudflare.lists": true, "github.run": false, "gone.job": false} {
		page := b.get("/watches?source=" + source)
		if !strings.Contains(page.body, "<option selected>"+source+"</option>") || !strings.Contains(page.body, "<option>open.job</option>") {
			t.Errorf("%s is not chosen in\n%s", source, page.body)
		}
		if strings.Contains(page.body, watch) != shown {
			t.Errorf("%s: shown %v, want %v\n%s", source, !shown, shown, page.body)
		}
	}
	if got := b.get("/watches?source=%00"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a source that can be none: %d", got.status)
	}
}

// A refused credential's page shows how to give it a secret of its own kind.
func TestSecretOfACredential(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	for want, fields := range map[string][2]string{
		`{"api_token": "..."}`:                   {"cloudflare.lists", `,"api_token":"t"`},
		`{"email": "...", "api_key": "..."}`:     {"cloudflare.lists", `,"email":"a@b.example","api_key":"k"`},
		`{"username": "...", "password": "..."}`: {"acme.job", `,"username":"u","password":"p"`},
		"The upstream takes no secret":           {"open.job", ""},
	} {
		upstream, _, _ := strings.Cut(fields[0], ".")
		id := r.made(key, "/v1/credentials", `{"name":"a","upstream":"`+upstream+`"`+fields[1]+`}`)
		r.made(key, "/v1/watches", `{"source":"`+fields[0]+`","operation_id":"1","credential_id":"`+id+`","destination_ids":[]}`)
		r.polls(storage.PollResult{
			RefusedSince: r.store.Steady(), RefusedReason: storage.ReasonCredentialRejected, CredentialRefused: true, Error: "no",
		})
		r.signedIn(r.tenant, storage.ScopeRead).get("/credentials/"+id).inOrder(t, "refused", "What to do", want)
	}
}
