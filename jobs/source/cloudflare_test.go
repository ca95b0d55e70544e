package source

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPollReadsTheSeedsExamples(t *testing.T) {
	t.Parallel()
	failed := serve(t, "cloudflare", reply(200, read(t, "testdata/seed-success.json"), "Ratelimit", `"default";r=50;t=30`))
	got := failed.Poll(t.Context(), failed.lists(testToken()))
	want := Answer{
		Verdict: Failed, Rule: got.Rule, UpstreamStatus: "failed", HTTPStatus: 200, Requests: 1, Left: &Left{50, 30 * time.Second},
		Error: "This list is at the maximum number of items", CompletedAt: time.Date(2020, 1, 1, 8, 0, 0, 0, time.UTC),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("200 (-want +got):\n%s", diff)
	}
	unknown := serve(t, "cloudflare", reply(404, read(t, "testdata/seed-failure.json")))
	got = unknown.Poll(t.Context(), unknown.lists(testToken()))
	want = Answer{Verdict: NotFound, Rule: got.Rule, HTTPStatus: 404, Requests: 1, Problem: "HTTP 404: 7003 No route for the URI"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("4XX (-want +got):\n%s", diff)
	}
}

// What a body claims is believed under 200 alone, and only Cloudflare's own envelope refuses a
// credential or does not know an operation.
func TestCloudflareByStatusFirst(t *testing.T) {
	t.Parallel()
	s := loaded(t, nil).Source("cloudflare.lists")
	const failure = `{"success":false,"errors":[{"code":1,"message":"m"}],"messages":[],"result":null}`
	own := map[int]Verdict{401: Refused, 403: Refused, 404: NotFound, 429: Limited}
	foreign := map[int]Verdict{429: Limited}
	for name, test := range map[string]struct {
		body string
		want map[int]Verdict
	}{
		"claim": {
			fmt.Sprintf(`{"success":true,"errors":[],"result":{"id":%q,"status":"completed"}}`, operation),
			map[int]Verdict{200: Completed, 401: Refused, 403: Refused, 404: NotFound, 429: Limited},
		},
		"failure":               {failure, own},
		"failure without codes": {`{"success":false,"errors":[]}`, own},
		"codes alone":           {`{"errors":[{"code":1}]}`, own},
		"malformed errors":      {`{"success":false,"errors":["m"],"result":[]}`, own},
		"page":                  {"<!DOCTYPE html><title>Attention Required!</title>", foreign},
		"text":                  {"default backend - 404", foreign},
		"nothing":               {"", foreign},
		"another's object":      {`{"message":"Forbidden"}`, foreign},
		"another's failure":     {`{"success":false,"message":"Forbidden"}`, foreign},
		"another's errors":      {`{"errors":[{"message":"Forbidden"}]}`, foreign},
		"a list":                {`[` + failure + `]`, foreign},
		"cut":                   {failure[:len(failure)-1], foreign},
	} {
		for status := 100; status < 600; status++ {
			want, ok := test.want[status]
			if !ok {
				want = Inconclusive
			}
			if got := s.Read(operation, Response{Status: status, Body: []byte(test.body)}); got.Verdict != want || (got.Problem == "") != got.Verdict.Known() {
				t.Errorf("%s under %d: got %+v, want %s", name, status, got, want)
			}
		}
	}
}

// The codes of a refused credential count under any 4xx that does not speak for itself, also
// where they are in the chain of another; under no other status.
func TestCloudflareCodes(t *testing.T) {
	t.Parallel()
	s := loaded(t, nil).Source("cloudflare.stream")
	for verdict, codes := range map[Verdict][]int{
		Refused:      {6003, 6102, 6103, 6111, 9103, 9106, 9107, 9109, 10000, 10001},
		NotFound:     {7000, 7003},
		Inconclusive: {0, 1, 971, 1000, 10405},
	} {
		for _, code := range codes {
			for status, want := range map[int]Verdict{
				400: verdict, 405: verdict, 418: verdict, 499: verdict, 404: NotFound, 429: Limited,
				200: Inconclusive, 302: Inconclusive, 500: Inconclusive, 503: Inconclusive,
			} {
				for _, format := range []string{
					`{"success":false,"errors":[{"code":%d,"message":"m"}],"messages":[],"result":null}`,
					`{"success":false,"errors":[{"code":1,"error_chain":[{"code":2},{"code":%d}]}]}`,
				} {
					body := fmt.Appendf(nil, format, code)
					if got := s.Read(operation, Response{Status: status, Body: body}); got.Verdict != want {
						t.Errorf("%d with code %d: got %+v, want %s", status, code, got, want)
					}
				}
			}
		}
	}
}

func TestCloudflareProblems(t *testing.T) {
	t.Parallel()
	s := loaded(t, nil).Source("cloudflare.lists")
	for _, test := range []struct {
		status int
		body   string
		want   string
	}{
		{502, "<!DOCTYPE html><html>stack trace</html>", "HTTP 502, HTML body"},
		{530, "error code: 1016", "HTTP 530, the body is no JSON"},
		{503, "", "HTTP 503, empty body"},
		{503, "{}", "HTTP 503"},
		{200, `{"success":true`, "HTTP 200, malformed JSON body"},
		{200, `{"success":true,"errors":[],"result":null}`, "HTTP 200, the status is missing"},
		{200, `{"success":true,"errors":[],"result":{"id":"x","status":"completed"}}`, "the answer is about another operation, or about none"},
		{200, `{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}`, "HTTP 200: 10000 Authentication error"},
		{302, `{"errors":[{"message":"x"}]}`, "HTTP 302, a redirect that is not followed"},
		{403, `{"success":false,"errors":[{"code":9109,"message":"Invalid\naccess token"}]}`, "HTTP 403: 9109 Invalid access token"},
		{
			400, `{"errors":[{"code":6003,"message":"Invalid request headers","error_chain":[{"code":6111,"message":"Invalid format"}]}]}`,
			"HTTP 400: 6003 Invalid request headers 6111 Invalid format",
		},
	} {
		got := s.Read(operation, Response{Status: test.status, Body: []byte(test.body)}).clear(func(s string) string { return s })
		if got.Problem != test.want {
			t.Errorf("%d %s: got %q, want %q", test.status, test.body, got.Problem, test.want)
		}
	}
}

// Why each rule did not match is told by the condition that failed first.
func TestExplain(t *testing.T) {
	t.Parallel()
	s := loaded(t, nil).Source("github.run")
	for _, test := range []struct {
		response Response
		says     []string
	}{
		{Response{Status: 200, Body: []byte(`{"id":30433642,"status":"in_progress","conclusion":null}`)}, []string{
			"http is 200, not 403", "http is 200, not 403", "/status is in_progress, not completed", "/status is in_progress, not completed",
			"/status is in_progress, not queued or requested or waiting or pending", "",
		}},
		{Response{Status: 200, Body: []byte(`{"id":30433642,"status":"completed"}`)}, []string{
			"http is 200, not 403", "http is 200, not 403", "/conclusion is absent, not success or neutral or skipped", "", "not tried", "not tried",
		}},
		{Response{Status: 403, Body: []byte(`{"message":"no"}`)}, []string{
			"header:Retry-After is absent", "header:X-RateLimit-Remaining is absent, not 0", "it names no http, so it needs a 200: this is HTTP 403",
		}},
		{Response{Status: 200, Body: []byte("<html>")}, []string{"http is 200, not 403", "http is 200, not 403", "it names no http, so it needs a 200 with JSON: HTML body"}},
	} {
		_, tried := s.Explain("30433642", test.response)
		for i, want := range test.says {
			if tried[i].Why != want || tried[i].Matched != (want == "") {
				t.Errorf("%s, rule %d: got %+v, want %q", test.response.Body, i, tried[i], want)
			}
		}
	}
	cloudflare := loaded(t, nil).Source("cloudflare.lists")
	_, tried := cloudflare.Explain("a", Response{Status: 400, Body: []byte(`{"errors":[{"code":1},{"code":2},{"message":"` + strings.Repeat("x", 300) + `"}]}`)})
	if want := "/errors/*/code is 1, 2, not 6003 or"; !strings.HasPrefix(tried[5].Why, want) {
		t.Errorf("got %q, want %q", tried[5].Why, want)
	}
}
