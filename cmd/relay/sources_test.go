package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ownSources = "testdata/acme.yaml"

func TestSourcesList(t *testing.T) {
	t.Parallel()
	listed := call(t.Context(), environment{"RELAY_SOURCES": ownSources}, "sources", "list")
	if listed.code != exitOK || listed.stderr != "" {
		t.Errorf("exit code %d, stderr %q", listed.code, listed.stderr)
	}
	mention(t, listed.stdout, "acme.job ", "Acme: Job", "team", ownSources, "cloudflare.lists ", "builtin/cloudflare.yaml", "owner,repo")
}

// What `show` prints of each source is a definition that `check` accepts.
func TestSourcesShowIsADefinition(t *testing.T) {
	t.Parallel()
	env := environment{"RELAY_SOURCES": ownSources}
	for line := range strings.Lines(call(t.Context(), env, "sources", "list").stdout) {
		name := strings.Fields(line)[0]
		if name == "NAME" {
			continue
		}
		shown := call(t.Context(), env, "sources", "show", name)
		file := filepath.Join(t.TempDir(), "shown.yaml")
		if err := os.WriteFile(file, []byte(shown.stdout), 0o600); err != nil {
			t.Fatal(err)
		}
		checked := call(t.Context(), nil, "sources", "check", file)
		if shown.code != exitOK || checked.code != exitOK || !strings.HasPrefix(checked.stdout, file+": "+name+": ") || strings.Count(checked.stdout, "\n") != 1 {
			t.Errorf("%s: exit codes %d and %d, %q %q", name, shown.code, checked.code, checked.stdout, checked.stderr)
		}
	}
}

func TestSourcesCheck(t *testing.T) {
	t.Parallel()
	right := call(t.Context(), nil, "sources", "check", ownSources)
	if right.code != exitOK || right.stdout != ownSources+": acme.job: 3 rules, 3 examples pass\n" || right.stderr != "" {
		t.Errorf("%+v", right)
	}
	wrong := call(t.Context(), nil, "sources", "check", "testdata/wrong.yaml", ownSources, "testdata/none.yaml")
	if wrong.code != exitError || wrong.stdout != "" {
		t.Errorf("exit code %d, stdout %q", wrong.code, wrong.stdout)
	}
	mention(t, wrong.stderr, "\ntestdata/wrong.yaml:4: auth \"barer\"", "\ntestdata/wrong.yaml:12: a source has no key \"states\"", "testdata/none.yaml")
	if empty := call(t.Context(), nil, "sources", "check", t.TempDir()); empty.code != exitError {
		t.Errorf("an empty folder: %+v", empty)
	}
	twice := call(t.Context(), nil, "sources", "check", ownSources, ownSources)
	if twice.code != exitError {
		t.Errorf("one upstream twice: %+v", twice)
	}
	mention(t, twice.stderr, "acme is defined in")
}

// A trial says what was asked, how each rule fared and what came of it, and never the token.
func TestSourcesTry(t *testing.T) {
	t.Parallel()
	const token = "token-marker-1234"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Left", "41")
		w.Header().Set("Set-Cookie", "session=1")
		if r.Header.Get("X-Api-Key") != token {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/red/jobs/a1":
			_, _ = w.Write([]byte(`{"state":"broken","why":"no \u001b[31mdisk for ` + token + `"}`))
		default:
			_, _ = w.Write([]byte(`{"state":"resting"}`))
		}
	}))
	t.Cleanup(upstream.Close)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environment{"RELAY_SOURCES": ownSources, "RELAY_UPSTREAM_URLS": "acme=" + upstream.URL, tryToken: token}
	try := []string{"sources", "try", "acme.job", "--param", "team=red", "--operation-id"}
	for name, test := range map[string]struct {
		env  environment
		args []string
		code int
		says []string
	}{
		"failed": {env, append(try, "a1"), exitOK, []string{
			"GET " + upstream.URL + "/red/jobs/a1\n", "X-Api-Key: [redacted]", "HTTP 200", "X-Left: 41",
			"/state is broken, not done", "MATCHED", "not tried", "\nfailed\n", "error: no ", "disk for [redacted]", "left of the quota: 41",
		}},
		"unknown status": {env.with(tryToken, ""), append(try, "a2", "--token-file", file), exitError, []string{
			"/state is resting, not queued or busy", "\ninconclusive\n", `"resting"`,
		}},
		"refused":  {env.with(tryToken, "other"), append(try, "a1"), exitError, []string{"HTTP 403", "it names no http, so it needs a 200 with JSON: empty body", "\nrefused\n", "no rule matched"}},
		"no token": {env.with(tryToken, ""), append(try, "a1"), exitError, []string{"\nrefused\n", "the credential does not have what Acme asks for"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tried := call(t.Context(), test.env, test.args...)
			if tried.code != test.code {
				t.Errorf("exit code %d, want %d", tried.code, test.code)
			}
			mention(t, tried.stdout, test.says...)
			for _, secret := range []string{token, "session=1", "\x1b"} {
				if strings.Contains(tried.stdout+tried.stderr, secret) {
					t.Errorf("%q shows in:\n%s%s", secret, tried.stdout, tried.stderr)
				}
			}
		})
	}
}

// What `simulate --source` stands in for can be tried with `sources try`.
func TestSimulateASource(t *testing.T) {
	t.Parallel()
	simulated := spawn(t, t.TempDir(), nil, "simulate", "--source", "github.run", "--listen", "127.0.0.1:0",
		"--pending-for", "0s", "--running-for", "0s", "--end", "failed", "--accept-token", "token-marker")
	line, ok := simulated.Stderr.Wait(deadline(t, startLimit), "RELAY_UPSTREAM_URLS=", simulated.Ended)
	if !ok {
		t.Fatalf("it did not come up:\n%s", simulated.Stderr)
	}
	setting := strings.TrimPrefix(strings.Fields(line)[0], "RELAY_UPSTREAM_URLS=")
	env := environment{"RELAY_UPSTREAM_URLS": setting, tryToken: "token-marker"}
	try := []string{"sources", "try", "github.run", "--param", "owner=o", "--param", "repo=r", "--operation-id", "7"}
	tried := call(t.Context(), env, try...)
	if tried.code != exitOK {
		t.Errorf("exit code %d: %s", tried.code, tried.stderr)
	}
	mention(t, tried.stdout, "\nfailed\n", `{"conclusion":"failure","id":7,`)
	if refused := call(t.Context(), env.with(tryToken, "other"), try...); refused.code != exitError {
		t.Errorf("another token: exit code %d", refused.code)
	}
}
