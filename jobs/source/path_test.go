package source

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// hostile are ids and parameters as attackers write them.
func hostile(base string) []string {
	host := strings.TrimPrefix(base, "https://")
	return []string{
		"", " ", ".", "..", "../..", "../../user/tokens/verify", "a/../b", "./a", "a/.", "a/..", "..%2f..", "%2e%2e", "%2E%2e/x", "%2f", "%00", "%",
		"x?y=1", "x#y", "?", "#", "a\\b", "..\\..", "a;b", "a b", "a\nb", "a\r\nHost: evil.example", "a\x00b", "a\tb", "\x7f", "a\n",
		"//evil.example", "//evil.example/a", "/evil", "@evil.example", "a@evil.example", ":80", "https:evil", "javascript:alert(1)", "file:///etc/passwd",
		"https://evil.example/", "https://" + host + "@evil.example/", "https://evil.example#" + host, "https://evil.example?" + host, `https://evil.example\@` + host + "/", `https://` + host + `\@evil.example/`,
		"https://user:pass@" + host + "/a", "https://" + host + ".evil.example/", "https://" + host + "./", "https://" + host + ":444/", "https://" + host + ":0443/a/../b",
		"http://" + host + "/", "ftp://" + host + "/", "HTTPS:" + host, "https:/" + host, "https:///a", "https://", "https://[::1]/", "https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://localhost/",
		"https://" + host + "/../a", "https://" + host + "/a/%2e%2e/b", "https://" + host + "/a/..%2fb", "https://" + host + "/a#b", "https://" + host + "/a b\n", "https://" + host + "%2eevil.example/", "https://" + host + "%00/",
		"https://xn--80ak6aa92e.com/", "https://аzure.example/", "https://ａcme.example/", "https://acme。example/", "https://KACME.example", "é", "\u65e5\u672c", "\u202e", "\ufeff", "a\u0301", "\xff", "../\xff",
		strings.Repeat("a", longestURL+1), strings.Repeat("../", 1400), strings.Repeat("é", 2048), "https://" + host + "/" + strings.Repeat("a", longestURL),
	}
}

// Whatever the values are, a URL that is made of them is of the base's origin, below its path
// and free of dot segments: else there is none.
func TestURLsStayAtTheBase(t *testing.T) {
	t.Parallel()
	const base = "https://acme.example/v1"
	lax := `upstream: lax
title: Lax
base: ` + base + `
auth: [bearer]
budget: 60/1m
egress: 10/1s
sources:
  flat: {title: T, path: '/a/{kind}/b/{operation_id}', params: {kind: '[^/?#%\\\x00-\x1f\x7f]{3,600}|[^./?#%\\\x00-\x1f\x7f]'}, operation_id: '[^/?#%\\\x00-\x1f\x7f]{3,}|[^./?#%\\\x00-\x1f\x7f]', status: /s, rules: [{when: {/s: d}, as: completed}], examples: [{body: {s: d}, as: completed}]}
  deep: {title: T, path: '/a/.{+operation_id}', operation_id: '[^?#%\\\x00-\x1f\x7f]{3,}|[^./?#%\\\x00-\x1f\x7f]', status: /s, rules: [{when: {/s: d}, as: completed}], examples: [{body: {s: d}, as: completed}]}
  link: {title: T, from: url, operation_id: '(?s).*', status: /s, rules: [{when: {/s: d}, as: completed}], examples: [{body: {s: d}, as: completed}]}
`
	u, err := Parse("lax.yaml", []byte(lax))
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, value := range hostile("https://acme.example") {
		for _, s := range u.Sources {
			for _, values := range [][2]string{{value, "fine"}, {"fine", value}} {
				params := map[string]string{"kind": values[1]}
				if s.Name != "lax.flat" {
					params = nil
				}
				address, err := s.URL(values[0], params)
				if err != nil {
					continue
				}
				made++
				// As the wire has it.
				sent, err := url.Parse(address.String())
				if err != nil || sent.Scheme+"://"+sent.Host != "https://acme.example" || sent.User != nil || sent.Fragment != "" {
					t.Errorf("%s %q: %v", s.Name, values, address)
				}
				if s.Name != "lax.link" && (!strings.HasPrefix(sent.EscapedPath(), "/v1/a/") || sent.RawQuery != "") || hasDotSegment(sent.Path) {
					t.Errorf("%s %q: %v", s.Name, values, address)
				}
				if s.Name == "lax.flat" && strings.Count(sent.EscapedPath(), "/") != 5 {
					t.Errorf("%s %q: %v", s.Name, values, address)
				}
			}
		}
	}
	if made == 0 {
		t.Error("no URL was made at all")
	}
}

func TestURLsOfTheUpstream(t *testing.T) {
	t.Parallel()
	s := loaded(t, map[string]string{"azure": "https://management.azure.com"}).Source("azure.operation")
	for id, want := range map[string]string{
		"https://management.azure.com/a?b=c":          "https://management.azure.com/a?b=c",
		"HTTPS://Management.Azure.COM:443/a":          "",
		"https://Management.Azure.COM:443/a":          "https://management.azure.com/a",
		"https://management.azure.com/a/b%20c?d=%2F":  "https://management.azure.com/a/b%20c?d=%2F",
		"https://management.azure.com":                "https://management.azure.com",
		"https://management.azure.com:8443/a":         "",
		"http://management.azure.com/a":               "",
		"https://management.azure.com.evil.example/a": "",
		"https://management.azure.com/a/../b":         "",
		"https://management.azure.com/a%2f..%2fb":     "",
	} {
		got, err := s.URL(id, nil)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%s: got %v, %v, want %q", id, got, err, want)
		}
	}
	long := "https://management.azure.com/" + strings.Repeat("a", longestURL-len("https://management.azure.com/"))
	if _, err := s.URL(long, nil); err != nil {
		t.Errorf("a URL of 4 KB: %v", err)
	}
	if _, err := s.URL(long+"a", nil); err == nil {
		t.Error("a URL over 4 KB was accepted")
	}
}

func TestCheckNamesEachFault(t *testing.T) {
	t.Parallel()
	s := loaded(t, nil).Source("github.run")
	got := fmt.Sprint(s.Check("x", map[string]string{"owner": "a/b", "owned": "x"}))
	want := "map[operation_id:has to match [0-9]{1,20} owned:is no parameter of github.run owner:has to match [A-Za-z0-9-]{1,39} repo:is required by github.run]"
	if got != want {
		t.Errorf("got %s", got)
	}
	if faults := s.Check("1", map[string]string{"owner": "a", "repo": "..b"}); len(faults) != 1 {
		t.Errorf("a repository of dots: %v", faults)
	}
}

// A token reaches no host but the upstream's, and no request is made of what cannot be asked.
func TestTokensGoToTheUpstreamAlone(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host was asked: %s %v", r.RequestURI, r.Header)
	}))
	t.Cleanup(elsewhere.Close)
	var paths []string
	client := serve(t, "github", func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.RequestURI)
		code := 0
		_, _ = fmt.Sscanf(r.URL.Path, "/repos/o/status-%d/", &code)
		switch {
		case code == 0 && strings.HasPrefix(r.URL.Path, "/repositories/"):
			reply(200, `{"id":1,"status":"in_progress"}`)(w, r)
		case strings.Contains(r.URL.Path, "loop"):
			http.Redirect(w, r, r.URL.Path, http.StatusMovedPermanently)
		case strings.Contains(r.URL.Path, "there"):
			w.Header().Set("Location", "/repositories/7/actions/runs/1")
			w.WriteHeader(http.StatusMovedPermanently)
		default:
			target := elsewhere.URL + "/a"
			switch r.URL.Path[len("/repos/o/status-301/actions/runs/")-1:] {
			case "/2":
				target = "//" + strings.TrimPrefix(elsewhere.URL, "http://") + "/a"
			case "/3":
				target = "http://" + r.Host + "@" + strings.TrimPrefix(elsewhere.URL, "http://") + "/a"
			case "/4":
				target = `\\` + strings.TrimPrefix(elsewhere.URL, "http://") + "/a"
			case "/5":
				target = "https://" + r.Host + "/a"
			}
			w.Header().Set("Location", target)
			w.WriteHeader(code)
		}
	})
	poll := func(repo, id string) Answer {
		paths = nil
		return client.Poll(t.Context(), Poll{
			Source: client.set.Source("github.run"), Credential: Credential{Fields: testToken()},
			Params: map[string]string{"owner": "o", "repo": repo}, OperationID: id,
		})
	}
	for _, code := range []int{301, 302, 303, 307, 308} {
		for id := 1; id <= 5; id++ {
			got := poll(fmt.Sprintf("status-%d", code), strconv.Itoa(id))
			if got.Verdict != Inconclusive || got.HTTPStatus != code || got.Requests != 1 || !strings.Contains(got.Problem, "not followed") {
				t.Errorf("%d, %d: got %+v", code, id, got)
			}
		}
	}
	if got := poll("there", "1"); got.Verdict != Running || got.Requests != 2 || paths[1] != "/repositories/7/actions/runs/1" {
		t.Errorf("a renamed repository: got %+v %v", got, paths)
	}
	if got := poll("loop", "1"); got.Verdict != Inconclusive || got.Requests != 1+mostRedirects || len(paths) != 1+mostRedirects {
		t.Errorf("a loop: got %+v %v", got, paths)
	}
	for _, id := range []string{"", "1/../2", "1?x", "x"} {
		if got := poll("a", id); got.Verdict != NotFound || got.Requests != 0 || len(paths) != 0 {
			t.Errorf("%q: got %+v %v", id, got, paths)
		}
	}
	// Where the definition does not allow redirects, none is followed, not even to the base.
	own := serve(t, "cloudflare", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/a", http.StatusFound) })
	if got := own.Poll(t.Context(), own.lists(testPair())); got.Verdict != Inconclusive || got.Requests != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestPollSendsNothingItShouldNot(t *testing.T) {
	t.Parallel()
	client := serve(t, "cloudflare", func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked %s", r.RequestURI) })
	for _, fields := range []Fields{{}, {Email: "a@b.c"}, {APIKey: "k"}, {APIToken: "two\nlines"}, {Username: "a", Password: "b"}, {ServiceAccount: "{}"}} {
		if got := client.Poll(t.Context(), client.lists(fields)); got.Verdict != Refused || got.Problem == "" || got.Requests != 0 {
			t.Errorf("an unusable credential: got %+v", got)
		}
	}
	google := at(t, "azure", "https://azure.example", Config{})
	got := google.Poll(t.Context(), Poll{Source: google.set.Source("google.operation"), OperationID: "operations/a", Credential: Credential{Fields: testToken()}})
	if got.Verdict != Inconclusive || !strings.Contains(got.Problem, "RELAY_UPSTREAM_URLS") {
		t.Errorf("an upstream without a base: got %+v", got)
	}
}
