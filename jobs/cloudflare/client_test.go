package cloudflare_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oprelay/jobs/cloudflare"
)

const (
	account   = "023e105f4ecef8ad9ca31a8372d0c353"
	operation = "4da8780eeb215e6cb7f48dd981c4ea02"
)

func testToken() cloudflare.Credential {
	return cloudflare.Credential{APIToken: "token-marker-1234567890"}
}

func testPair() cloudflare.Credential {
	return cloudflare.Credential{Email: "ops@example.com", APIKey: "key-marker-1234567890"}
}

// serve starts a server, and a client that polls it.
func serve(t *testing.T, handler http.HandlerFunc) *cloudflare.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	client := cloudflare.New(cloudflare.Config{BaseURL: server.URL, Version: "1.2.3"})
	t.Cleanup(client.Close)
	return client
}

// reply answers everything with the same.
func reply(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestPollReadsTheSeedsExamples(t *testing.T) {
	t.Parallel()
	failed := serve(t, reply(http.StatusOK, read(t, "testdata/seed-success.json")))
	want := cloudflare.Answer{
		Outcome: cloudflare.Terminal, Status: cloudflare.StatusFailed, HTTPStatus: 200,
		Error:       "This list is at the maximum number of items",
		CompletedAt: time.Date(2020, 1, 1, 8, 0, 0, 0, time.UTC),
	}
	if diff := cmp.Diff(want, failed.Poll(t.Context(), testToken(), account, operation)); diff != "" {
		t.Errorf("200 (-want +got):\n%s", diff)
	}
	unknown := serve(t, reply(http.StatusNotFound, read(t, "testdata/seed-failure.json")))
	want = cloudflare.Answer{
		Outcome: cloudflare.NotFound, HTTPStatus: 404, Problem: "HTTP 404: 7003 No route for the URI",
	}
	if diff := cmp.Diff(want, unknown.Poll(t.Context(), testToken(), account, operation)); diff != "" {
		t.Errorf("4XX (-want +got):\n%s", diff)
	}
}

// Every final status that a server can send, with a body that claims a completed
// operation: only under 200 is it believed.
func TestPollClassifiesByStatusFirst(t *testing.T) {
	t.Parallel()
	body := fmt.Sprintf(`{"success":true,"errors":[],"result":{"id":%q,"status":"completed"}}`, operation)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/accounts/%d/", &status)
		reply(status, body)(w, r)
	})
	special := map[int]cloudflare.Outcome{
		200: cloudflare.Terminal,
		401: cloudflare.Refused,
		403: cloudflare.Refused,
		404: cloudflare.NotFound,
		429: cloudflare.RateLimited,
	}
	for status := 200; status < 600; status++ {
		want, ok := special[status]
		if !ok {
			want = cloudflare.Inconclusive
		}
		got := client.Poll(t.Context(), testToken(), strconv.Itoa(status), operation)
		if got.Outcome != want || got.HTTPStatus != status {
			t.Errorf("%d: got %s (HTTP %d), want %s", status, got.Outcome, got.HTTPStatus, want)
		}
		if (got.Problem == "") != (status == 200) {
			t.Errorf("%d: problem %q", status, got.Problem)
		}
	}
}

func TestPollNamesTheProblem(t *testing.T) {
	t.Parallel()
	const html = "<!DOCTYPE html><html>secret stack trace</html>"
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		want    cloudflare.Answer
	}{
		{"502 HTML", reply(502, html), cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "HTTP 502, HTML body"}},
		{
			"530 edge error", reply(530, "error code: 1016", "Retry-After", "7"),
			cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "HTTP 530, body is no JSON", RetryAfter: 7 * time.Second},
		},
		{"503 empty", reply(503, ""), cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "HTTP 503, empty body"}},
		{"503 JSON", reply(503, "{}"), cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "HTTP 503"}},
		{
			"403", reply(403, `{"success":false,"errors":[{"code":9109,"message":"Invalid\naccess token"}]}`),
			cloudflare.Answer{Outcome: cloudflare.Refused, Problem: "HTTP 403: 9109 Invalid access token"},
		},
		{
			"429", reply(429, `{"success":false,"errors":[{"code":10000,"message":"m"}]}`, "Retry-After", "300", "Ratelimit", `"default";r=0;t=30`),
			cloudflare.Answer{
				Outcome: cloudflare.RateLimited, Problem: "HTTP 429: 10000 m",
				RetryAfter: 5 * time.Minute, Quota: &cloudflare.Quota{Reset: 30 * time.Second},
			},
		},
		{
			"400 for a malformed token",
			reply(400, `{"success":false,"errors":[{"code":6003,"message":"a","error_chain":[{"code":6111,"message":"b"}]}]}`),
			cloudflare.Answer{Outcome: cloudflare.Refused, Problem: "HTTP 400: 6003 a (6111 b)"},
		},
		{
			"400 for an unroutable path", reply(400, `{"errors":[{"code":7000,"message":"No route for that URI"}]}`),
			cloudflare.Answer{Outcome: cloudflare.NotFound, Problem: "HTTP 400: 7000 No route for that URI"},
		},
		{
			"400 otherwise", reply(400, `{"errors":[{"code":10000,"message":"m"}]}`),
			cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "HTTP 400: 10000 m"},
		},
		{
			"over the limit", reply(200, `{"success":true`+strings.Repeat(" ", 64<<10)+`}`),
			cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "HTTP 200, body over 64 KiB"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := serve(t, test.handler).Poll(t.Context(), testToken(), account, operation)
			got.HTTPStatus = 0
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPollFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the second host was asked: %v", r.Header)
	}))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/"+r.URL.Path, status)
		})
		for _, cred := range []cloudflare.Credential{testToken(), testPair()} {
			got := client.Poll(t.Context(), cred, account, operation)
			want := cloudflare.Answer{
				Outcome: cloudflare.Inconclusive, HTTPStatus: status,
				Problem: fmt.Sprintf("HTTP %d, a redirect, which is never followed", status),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d (-want +got):\n%s", status, diff)
			}
		}
	}
}

func TestPollEscapesIDs(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.RequestURI
		reply(404, "")(w, r)
	})
	for id, segment := range map[string]string{
		"../../user/tokens/verify": "..%2F..%2Fuser%2Ftokens%2Fverify",
		"x?y=1":                    "x%3Fy=1",
		"x#y":                      "x%23y",
		"%2e%2e":                   "%252e%252e",
		"a b\r\nX-Evil: 1":         "a%20b%0D%0AX-Evil:%201",
	} {
		client.Poll(t.Context(), testToken(), id, id)
		want := "/accounts/" + segment + "/rules/lists/bulk_operations/" + segment
		if got := <-asked; got != want {
			t.Errorf("%q: asked %s, want %s", id, got, want)
		}
	}
}

func TestPollSendsNothingItShouldNot(t *testing.T) {
	t.Parallel()
	client := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked %s", r.RequestURI) })
	for _, id := range []string{"", ".", ".."} {
		for _, ids := range [][2]string{{id, operation}, {account, id}} {
			if got := client.Poll(t.Context(), testToken(), ids[0], ids[1]); got.Outcome != cloudflare.NotFound {
				t.Errorf("ids %q: got %+v", ids, got)
			}
		}
	}
	for _, cred := range []cloudflare.Credential{{}, {Email: "a@b.c"}, {APIKey: "k"}, {APIToken: "two\nlines"}} {
		if got := client.Poll(t.Context(), cred, account, operation); got.Outcome != cloudflare.Refused || got.Problem == "" {
			t.Errorf("unusable credential: got %+v", got)
		}
	}
}

func TestPollWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	got := cloudflare.New(cloudflare.Config{BaseURL: closed.URL}).Poll(t.Context(), testToken(), account, operation)
	if got.Outcome != cloudflare.Inconclusive || got.HTTPStatus != 0 || !strings.Contains(got.Problem, "connection refused") {
		t.Errorf("connection refused: got %+v", got)
	}
	got = cloudflare.New(cloudflare.Config{BaseURL: "http://user:pass-marker@[bad"}).Poll(t.Context(), testToken(), account, operation)
	if want := (cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "the base URL is malformed"}); got != want {
		t.Errorf("malformed base URL: got %+v", got)
	}
}
