package source

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// request is what a source's poll has to look like at its upstream.
type request struct {
	upstream string
	params   map[string]string
	id       string
	fields   Fields
	uri      string            // behind the base
	headers  map[string]string // "" for none
}

func requests(base string) map[string]request {
	const cf = "/accounts/" + account
	ofAccount := map[string]string{"account_id": account}
	token := Fields{APIToken: "token-marker"}
	bearer := map[string]string{"Authorization": "Bearer token-marker", "Accept": "application/json", "User-Agent": "relay/1.2.3"}
	operationURL := base + "/subscriptions/s/providers/Microsoft.Compute/locations/westeurope/operations/4e0d?api-version=2024-07-01&t=638%2B1"
	return map[string]request{
		"cloudflare.lists": {"cloudflare", ofAccount, operation, token, cf + "/rules/lists/bulk_operations/" + operation, bearer},
		"cloudflare.workflow": {
			"cloudflare",
			map[string]string{"account_id": account, "workflow": "nightly-import"},
			"3fe0b2a4", token,
			cf + "/workflows/nightly-import/instances/3fe0b2a4", bearer,
		},
		"cloudflare.r2_migration": {"cloudflare", ofAccount, "6f9a", Fields{Email: "ops@example.com", APIKey: "key-marker"}, cf + "/slurper/jobs/6f9a", map[string]string{
			"X-Auth-Email": "ops@example.com", "X-Auth-Key": "key-marker", "Authorization": "",
		}},
		"cloudflare.pages_deployment": {
			"cloudflare",
			map[string]string{"account_id": account, "project": "site-01"},
			"0012e50b-fa5d", token,
			cf + "/pages/projects/site-01/deployments/0012e50b-fa5d", bearer,
		},
		"cloudflare.stream": {"cloudflare", ofAccount, "ea95132c", token, cf + "/stream/ea95132c", bearer},
		"github.run": {"github", map[string]string{"owner": "octocat", "repo": ".github"}, "30433642", token, "/repos/octocat/.github/actions/runs/30433642", map[string]string{
			"Authorization": "Bearer token-marker", "Accept": "application/vnd.github+json", "X-Github-Api-Version": "2022-11-28",
		}},
		"openai.batch":         {"openai", nil, "batch_abc123", token, "/batches/batch_abc123", bearer},
		"replicate.prediction": {"replicate", nil, "gm3qorzdhgbf", token, "/predictions/gm3qorzdhgbf", bearer},
		"google.operation":     {"google", nil, "projects/p/locations/l/operations/4e0d", token, "/v1/projects/p/locations/l/operations/4e0d", bearer},
		"azure.operation":      {"azure", nil, operationURL, token, strings.TrimPrefix(operationURL, base), bearer},
	}
}

// Each built-in source asks as its API wants it, and takes for what it is whatever may come back.
func TestBuiltInSources(t *testing.T) {
	t.Parallel()
	for _, s := range loaded(t, nil).Sources() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			answers := make(chan http.HandlerFunc, 1)
			asked := make(chan *http.Request, 4)
			upstream, _, _ := strings.Cut(s.Name, ".")
			client := serve(t, upstream, func(w http.ResponseWriter, r *http.Request) {
				asked <- r
				(<-answers)(w, r)
			})
			base := client.set.Upstream(upstream).Base
			want, ok := requests(base)[s.Name]
			if !ok {
				t.Fatal("not tested here")
			}
			poll := Poll{Source: client.set.Source(s.Name), Credential: Credential{Fields: want.fields}, Params: want.params, OperationID: want.id}
			ask := func(answer http.HandlerFunc) Answer {
				answers <- answer
				got := client.Poll(t.Context(), poll)
				r := <-asked
				if r.Method != http.MethodGet || r.RequestURI != want.uri {
					t.Errorf("asked %s %s, want %s", r.Method, r.RequestURI, want.uri)
				}
				for name, value := range want.headers {
					if r.Header.Get(name) != value {
						t.Errorf("%s is %q, want %q", name, r.Header.Get(name), value)
					}
				}
				return got
			}
			checkExamples(t, poll, ask)
			checkCommonAnswers(t, poll, ask)
		})
	}
}

// checkExamples serves the definition's own examples, about the operation that is asked for.
func checkExamples(t *testing.T, poll Poll, ask func(http.HandlerFunc) Answer) {
	t.Helper()
	seen := map[Verdict]bool{}
	for _, e := range poll.Source.Examples {
		if e.OperationID != "" {
			continue
		}
		seen[e.As] = true
		body := strings.ReplaceAll(string(e.Body), poll.Source.OperationID.Example, poll.OperationID)
		var headers []string
		for name, value := range e.Header {
			headers = append(headers, name, value)
		}
		got := ask(reply(e.HTTP, body, headers...))
		e.Body = []byte(body)
		if got.Verdict != e.As || got.HTTPStatus != e.HTTP || got.Requests != 1 || (got.Problem == "") != got.Verdict.Known() {
			t.Errorf("line %d: got %+v", e.Line, got)
		}
		if e.Status != nil && *e.Status != got.UpstreamStatus || e.Error != nil && *e.Error != got.Error || e.CompletedAt != nil && !e.CompletedAt.Equal(got.CompletedAt) {
			t.Errorf("line %d: got %+v", e.Line, got)
		}
	}
	for _, verdict := range []Verdict{Running, Completed, Failed} {
		if !seen[verdict] {
			t.Errorf("no example is %s", verdict)
		}
	}
}

// checkCommonAnswers serves what any upstream may answer.
func checkCommonAnswers(t *testing.T, poll Poll, ask func(http.HandlerFunc) Answer) {
	t.Helper()
	envelope := poll.Source.Upstream.Name == "cloudflare" // whose refusals have a shape
	var completed string
	for _, e := range poll.Source.Examples {
		if e.As == Completed && len(e.Body) > 0 {
			completed = strings.ReplaceAll(string(e.Body), poll.Source.OperationID.Example, poll.OperationID)
			break
		}
	}
	own := func(as Verdict) Verdict {
		if envelope {
			return Inconclusive
		}
		return as
	}
	const html = "<!DOCTYPE html><title>Attention Required!</title>"
	failure := `{"success":false,"errors":[{"code":1,"message":"no"}],"error":{"message":"no"},"message":"no","detail":"no"}`
	absent := Inconclusive
	if poll.Source.Absent != "" && poll.Source.ID == "" {
		absent = poll.Source.Absent
	}
	for _, test := range []struct {
		name    string
		status  int
		body    string
		headers []string
		want    Verdict
	}{
		{"HTML", 200, html, nil, Inconclusive},
		{"nothing", 200, "", nil, Inconclusive},
		{"an array", 200, "[]", nil, Inconclusive},
		{"null", 200, "null", nil, Inconclusive},
		{"no status", 200, "{}", nil, absent},
		{"truncated", 200, completed[:len(completed)-1], nil, Inconclusive},
		{"two values", 200, completed + completed, nil, Inconclusive},
		{"too long", 200, completed + strings.Repeat(" ", poll.Source.Upstream.MaxBody), nil, Inconclusive},
		{"completed", 200, " \r\n" + completed + "\n", nil, Completed},
		{"completed under 500", 500, completed, nil, Inconclusive},
		{"completed under 404", 404, strings.Replace(completed, `"errors":[],`, "", 1), nil, own(NotFound)},
		{"401", 401, failure, nil, Refused},
		{"401 of a firewall", 401, html, nil, own(Refused)},
		{"403", 403, failure, nil, Refused},
		{"404", 404, failure, nil, NotFound},
		{"404 of a proxy", 404, "default backend - 404", nil, own(NotFound)},
		{"410", 410, "", nil, own(NotFound)},
		{"429", 429, failure, []string{"Retry-After", "7"}, Limited},
		{"429 of a firewall", 429, html, []string{"Retry-After-Ms", "7000"}, Limited},
		{"400", 400, failure, nil, Inconclusive},
		{"502", 502, html, []string{"X-Ms-Retry-After-Ms", "7000"}, Inconclusive},
		{"302", 302, "", []string{"Location", "https://elsewhere.example/"}, Inconclusive},
	} {
		got := ask(reply(test.status, test.body, test.headers...))
		if got.Verdict != test.want || got.HTTPStatus != test.status || (got.Problem == "") != got.Verdict.Known() {
			t.Errorf("%s: got %+v, want %s", test.name, got, test.want)
		}
		if len(test.headers) == 2 && test.status != 302 && got.RetryAfter != 7*time.Second {
			t.Errorf("%s: retry after %v", test.name, got.RetryAfter)
		}
	}
}

// An unheard-of status of each source is polled again, and shown.
func TestUnknownStatus(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"cloudflare.lists":            `{"success":true,"result":{"id":%q,"status":"resting"}}`,
		"cloudflare.workflow":         `{"success":true,"result":{"status":"resting","id":%q}}`,
		"cloudflare.r2_migration":     `{"success":true,"result":{"status":"resting","id":%q}}`,
		"cloudflare.pages_deployment": `{"success":true,"result":{"id":%q,"latest_stage":{"status":"resting"}}}`,
		"cloudflare.stream":           `{"success":true,"result":{"uid":%q,"status":{"state":"resting"}}}`,
		"github.run":                  `{"id":%s,"status":"resting"}`,
		"openai.batch":                `{"id":%q,"status":"resting"}`,
		"replicate.prediction":        `{"id":%q,"status":"resting"}`,
		"google.operation":            `{"name":%q,"done":"resting"}`,
	} {
		s := loaded(t, nil).Source(name)
		got := s.Read(s.OperationID.Example, Response{Status: 200, Body: fmt.Appendf(nil, body, s.OperationID.Example)})
		if got.Verdict != Inconclusive || !strings.Contains(got.Problem, `"resting"`) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	// Azure has any other word for running.
	azure := loaded(t, nil).Source("azure.operation")
	if got := azure.Read("", Response{Status: 200, Body: []byte(`{"status":"resting"}`)}); got.Verdict != Running || got.UpstreamStatus != "resting" {
		t.Errorf("azure.operation: got %+v", got)
	}
}

// Of members with one name the last counts; what is no UTF-8 is read all the same.
func TestReadUnusualJSON(t *testing.T) {
	t.Parallel()
	s := loaded(t, nil).Source("cloudflare.lists")
	id := `"id":"` + operation + `"`
	for body, want := range map[string]Verdict{
		`{"success":false,"success":true,"result":{` + id + `,"status":"completed"}}`:                                                     Completed,
		`{"success":true,"success":null,"result":{` + id + `,"status":"completed"}}`:                                                      Inconclusive,
		`{"success":true,"result":{` + id + `,"status":"completed"},"result":{` + id + `,"status":"running"}}`:                            Running,
		`{"success":true,"result":{` + id + `,"status":"completed"},"result":[]}`:                                                         Inconclusive,
		`{"success":true,"result":{` + id + `,"status":"completed"},"result":{` + id + `}}`:                                               Inconclusive,
		`{"success":true,"result":{` + id + `,"id":"other","status":"completed"}}`:                                                        Inconclusive,
		`{"success":true,"x":"` + "\xff" + `","result":{` + id + `,"status":"completed"}}`:                                                Completed,
		`{"success":true,"result":{` + id + `,"status":"complet` + "\xff" + `ed"}}`:                                                       Inconclusive,
		`{"success":true,"result":{` + id + `,"status":"\u0063ompleted"}}`:                                                                Completed,
		`{"success":true,"result":{` + id + `,"status":{"completed":1}}}`:                                                                 Inconclusive,
		`{"success":true,"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `,"result":{` + id + `,"status":"completed"}}`:   Completed,
		`{"success":true,"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `,"result":{` + id + `,"status":"completed"}}`: Inconclusive,
	} {
		if got := s.Read(operation, Response{Status: 200, Body: []byte(body)}); got.Verdict != want {
			t.Errorf("%.120s: got %+v, want %s", body, got, want)
		}
	}
	for body, want := range map[string]Verdict{
		`{"errors":[{"code":10000,"message":"a"},{"code":1,"message":"b"}]}`: Refused,
		`{"errors":[{"code":1,"message":"a"},{"code":10000}]}`:               Refused,
		`{"errors":[{"code":1},{"code":2,"code":10000}]}`:                    Refused,
		`{"errors":[{"code":10000,"code":1}]}`:                               Inconclusive,
		`{"errors":[{"code":1,"error_chain":[{"code":2},{"code":7003}]}]}`:   NotFound,
	} {
		if got := s.Read(operation, Response{Status: 400, Body: []byte(body)}); got.Verdict != want {
			t.Errorf("%s: got %+v, want %s", body, got, want)
		}
	}
}

// Whatever answers, no source panics, says half a thing, or lets through what cannot be stored.
func FuzzRead(f *testing.F) {
	files, _ := filepath.Glob("testdata/seed-*.json")
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(200, body)
		f.Add(404, body)
	}
	s := loaded(f, nil)
	for _, source := range s.Sources() {
		for _, e := range source.Examples {
			f.Add(e.HTTP, e.Body)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		for _, source := range s.Sources() {
			got := source.Read(source.OperationID.Example, Response{Status: status, Body: body}).clear(func(s string) string { return s })
			if got.Verdict.Known() != (got.Problem == "") || got.Verdict == "" {
				t.Errorf("%s: half an answer: %+v", source.Name, got)
			}
			if !got.Verdict.Terminal() && (got.Error != "" || !got.CompletedAt.IsZero()) || got.Verdict != Failed && got.Error != "" {
				t.Errorf("%s: an end that is none: %+v", source.Name, got)
			}
			if got.Verdict.Terminal() && (status < 200 || status > 204) {
				t.Errorf("%s: an end by HTTP %d: %+v", source.Name, status, got)
			}
			checkFit(t, got)
			if again, _ := source.Explain(source.OperationID.Example, Response{Status: status, Body: body}); again.Verdict != got.Verdict || again.Rule != got.Rule {
				t.Errorf("%s: explained as %+v, read as %+v", source.Name, again, got)
			}
		}
	})
}
