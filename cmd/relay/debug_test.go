package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"oprelay/deploy/testenv"
)

// listening is the address that a line of the log tells.
func (r *relay) listening(msg string) string {
	r.t.Helper()
	line, ok := r.Stderr.Wait(deadline(r.t, startLimit), `"msg":"`+msg+`"`, r.Ended)
	var up struct{ Listen string }
	if err := json.Unmarshal([]byte(line), &up); !ok || err != nil {
		r.t.Fatalf("no line %q: %v", msg, err)
	}
	return up.Listen
}

// Profiles are had where they were asked for, in every role, and nowhere else.
func TestProfiles(t *testing.T) {
	t.Parallel()
	get := func(address, path string) (status int, body string) {
		t.Helper()
		response, err := http.Get("http://" + address + path) //nolint:noctx // answers at once
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		read, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(read)
	}
	s := startSeparate(t, newSurroundings(t), testenv.Redis(t), 1, "RELAY_DEBUG_LISTEN", "127.0.0.1:0")
	for _, r := range []*relay{s.server, s.workers[0]} {
		address := r.listening("profiles")
		for path, wanted := range map[string]string{
			"/debug/pprof/": "heap", "/debug/pprof/goroutine?debug=2": "goroutine 1 ", "/debug/pprof/heap": "\x1f\x8b",
		} {
			if status, body := get(address, path); status != http.StatusOK || !strings.Contains(body, wanted) {
				t.Errorf("%s: %d %.80q", path, status, body)
			}
		}
		if status, body := get(address, "/debug/pprof/cmdline"); status != http.StatusNotFound || strings.Contains(body, "relay") {
			t.Errorf("the command line: %d %q", status, body)
		}
		if strings.Contains(r.Stderr.String(), "RELAY_DEBUG_LISTEN") {
			t.Error("a loopback address is warned of")
		}
	}
	if status, body := get(s.workers[0].listening("profiles"), "/debug/pprof/profile?seconds=1"); status != http.StatusOK ||
		!strings.HasPrefix(body, "\x1f\x8b") {
		t.Errorf("the CPU profile: %d %.80q", status, body)
	}
	if status, _ := get(s.server.address, "/debug/pprof/heap"); status != http.StatusNotFound {
		t.Errorf("the API's own address answers %d, want 404", status)
	}

	open := startEmbedded(t, newSurroundings(t), "RELAY_DEBUG_LISTEN", "0.0.0.0:0")
	if open.server.listening("profiles"); !strings.Contains(open.server.Stderr.String(), "use a loopback address") {
		t.Error("an address that others reach is not warned of")
	}
}
