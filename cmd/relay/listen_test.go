package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"oprelay/api/client"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/webhooktest"
)

// listen starts relay listen and returns when it is ready.
func (s *system) listen(t *testing.T, args ...string) *relay {
	t.Helper()
	r := spawn(t, t.TempDir(), s.user(), append([]string{"listen"}, args...)...)
	if _, ok := r.Stderr.Wait(deadline(t, startLimit), "ready: ", r.Ended); !ok {
		t.Fatalf("it does not become ready:\n%s", r.Stderr)
	}
	return r
}

// interrupted ends what a person would end.
func (r *relay) interrupted(t *testing.T) {
	t.Helper()
	r.Signal(syscall.SIGINT)
	if code := r.Wait(startLimit); code != exitOK {
		t.Errorf("exit code %d after an interrupt:\n%s", code, r.Stderr)
	}
}

// printsLine waits for a line of stdout with the text.
func (r *relay) printsLine(t *testing.T, text string) string {
	t.Helper()
	line, ok := r.Stdout.Wait(deadline(t, startLimit), text, r.Ended)
	if !ok {
		t.Fatalf("%q is not printed", text)
	}
	return line
}

// An event is printed once it is there, by those who want its type, and again for those who begin before it.
func TestListenPrintsEvents(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	credential := s.credential(t, "token")
	all, failures, asJSON := s.listen(t), s.listen(t, "--type", "operation.failed"), s.listen(t, "--json")
	end := func(plan simulator.Plan, name string) {
		w := s.end(t, s.registered(t, s.add(plan), "--account", testAccount, "--credential", credential, "--name", name), startLimit)
		line := all.printsLine(t, *w.EventID)
		reason := ""
		if w.Operation.Error != nil {
			reason = ": " + *w.Operation.Error
		}
		want := regexp.MustCompile(`^\S+Z  operation\.` + string(w.Status) + ` +` + name + ` \(` + w.Operation.ID + `\)` + reason + `  ` + *w.EventID + `$`)
		if !want.MatchString(line) {
			t.Errorf("printed %q", line)
		}
		seen, err := s.api.GetEventWithResponse(t.Context(), *w.EventID)
		want200(t, err, seen)
		if line := asJSON.printsLine(t, *w.EventID); line != strings.TrimSpace(string(seen.Body)) {
			t.Errorf("printed\n%s\nthe API has\n%s", line, seen.Body)
		}
	}
	end(simulator.Plan{}, "first")
	end(simulator.Plan{End: simulator.EndFailed}, "second")
	end(simulator.Plan{}, "third")
	failures.printsLine(t, "second")

	events := s.events(t)
	since := s.listen(t, "--since", events[0].ID, "--json")
	since.printsLine(t, events[2].ID)
	for _, c := range []struct {
		r     *relay
		lines int
	}{{all, 3}, {failures, 1}, {asJSON, 3}, {since, 2}} {
		c.r.interrupted(t)
		if n := strings.Count(c.r.Stdout.String(), "\n"); n != c.lines {
			t.Errorf("%d lines, want %d:\n%s", n, c.lines, c.r.Stdout)
		}
	}
	full := spawnInShell(t, s.user(), ">/dev/full", "listen", "--since", events[0].ID)
	if code := full.Wait(startLimit); code != exitUsage {
		t.Errorf("exit code %d where nothing can be printed, want 2", code)
	}
}

// One that comes back after its place in the feed was deleted says so and goes on; one that begins
// there ends with that.
func TestListenAfterRetention(t *testing.T) {
	t.Parallel()
	const last, begins = "event_01jd8p5kzve6wbdq8rfg0m3c7x", "event_01jd8p5kzve6wbdq8rfg0m3c7y"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var streams atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		after := r.URL.Query().Get("after")
		if after == last {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusGone)
			fmt.Fprintf(w, `{"title":"This part of the feed has been deleted","status":410,"detail":"All up to then is gone.","begins_after":%q}`, begins)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: %s\n\n", last)
		if streams.Add(1); after == begins {
			cancel()
		}
	}))
	defer server.Close()
	env := environment{"RELAY_URL": server.URL, "RELAY_API_KEY": "relay_x"}
	said := call(ctx, env, "listen")
	mention(t, said.stderr, "Events may be missing here. All up to then is gone.")
	if said.code != 0 || streams.Load() != 2 {
		t.Errorf("exit code %d after %d streams:\n%s", said.code, streams.Load(), said.stderr)
	}
	refused := call(t.Context(), env, "listen", "--since", last)
	mention(t, refused.stderr, "This part of the feed has been deleted", "All up to then is gone.")
	if refused.code == 0 {
		t.Error("--since a place that is gone is taken")
	}
}

func want200(t *testing.T, err error, answer response) {
	t.Helper()
	want(t, http.StatusOK, err, answer)
}

// Each event is posted, signed, to a receiver that is being developed, and what that answers is printed. One that
// is not there stops nothing.
func TestListenForwards(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	credential := s.credential(t, "token")
	given := s.listen(t, "--forward-to", s.receiverURL+"/hooks", "--secret", testSecret)
	making := webhooktest.New()
	made := s.listen(t, "--json", "--forward-to", serve(t, making))
	line, _ := made.Stderr.Find("whsec_")
	making.Trust(regexp.MustCompile(`whsec_\S+`).FindString(line))
	nowhere := s.listen(t, "--forward-to", "http://127.0.0.1:1")
	making.Respond(webhooktest.Always(webhooktest.Answer{Status: http.StatusFound, Location: s.receiverURL}))

	for range 2 {
		w := s.end(t, s.registered(t, s.add(simulator.Plan{}), "--account", testAccount, "--credential", credential), startLimit)
		for _, r := range []*relay{given, made, nowhere} {
			r.printsLine(t, *w.EventID)
		}
	}
	events := s.events(t)
	for _, receiver := range []*webhooktest.Receiver{s.receiver, making} {
		arrivals, err := receiver.Wait(deadline(t, startLimit), webhooktest.Count(len(events)))
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range arrivals {
			if a.Err != nil || a.ID != events[i].ID || string(a.Body) != string(events[i].Body) || a.Header.Get("Content-Type") != "application/json" {
				t.Errorf("arrival %d is %s (%v)\n%s\nthe event is\n%s", i, a.ID, a.Err, a.Body, events[i].Body)
			}
		}
	}
	eventually(t, startLimit, "all outcomes are printed", func() bool {
		return strings.Count(given.Stdout.String(), "/hooks: 204 No Content in ") == 2 &&
			strings.Count(made.Stderr.String(), ": 302 Found in ") == 2 &&
			strings.Count(nowhere.Stdout.String(), "http://127.0.0.1:1: not delivered: ") == 2
	})
	for _, r := range []*relay{given, made, nowhere} {
		r.interrupted(t)
	}
	if strings.Contains(made.Stdout.String(), "->") {
		t.Errorf("not only events are on stdout:\n%s", made.Stdout)
	}
}

// The receiver of its own accepts what a relay sends, and nothing that does not verify.
func TestListenReceives(t *testing.T) {
	t.Parallel()
	r := spawn(t, t.TempDir(), nil, "listen", "--receive", "127.0.0.1:0", "--secret", testSecret, "--json")
	line, ok := r.Stderr.Wait(deadline(t, startLimit), "ready: ", r.Ended)
	if !ok {
		t.Fatal("it does not become ready")
	}
	url := regexp.MustCompile(`http://\S+`).FindString(line)
	s := startEmbedded(t, newSurroundings(t))
	destination := s.destination(t, client.NewDestination{Type: client.DestinationWebhook, URL: &url, Secret: new(testSecret)})
	w := s.end(t, s.registered(t, s.add(simulator.Plan{}), "--account", testAccount, "--credential", s.credential(t, "token"), "--destination", destination), startLimit)
	seen, err := s.api.GetEventWithResponse(t.Context(), *w.EventID)
	want200(t, err, seen)
	var printed client.Event
	if err := json.Unmarshal([]byte(r.printsLine(t, *w.EventID)), &printed); err != nil {
		t.Fatal(err)
	}
	if event := *seen.JSON200; printed.ID != event.ID || printed.Type != event.Type || *printed.WatchID != *event.WatchID || string(printed.Body) != string(event.Body) {
		t.Errorf("printed\n%s\nthe API has\n%s", pretty(printed), seen.Body)
	}
	eventually(t, startLimit, "it is accepted", func() bool {
		return len(s.deliveries(t, client.ListDeliveriesParams{Status: new(client.DeliverySucceeded)})) == 1
	})

	for name, c := range map[string]struct {
		method, secret, body string
		at                   time.Time
		status               int
	}{
		"signed":              {http.MethodPost, testSecret, `{"type":"x","timestamp":"2026-01-01T00:00:00Z"}`, time.Now(), http.StatusNoContent},
		"of another's secret": {http.MethodPost, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "{}", time.Now(), http.StatusUnauthorized},
		"too old":             {http.MethodPost, testSecret, "{}", time.Now().Add(-time.Hour), http.StatusUnauthorized},
		"not JSON":            {http.MethodPost, testSecret, "type=x", time.Now(), http.StatusBadRequest},
		"too large":           {http.MethodPost, testSecret, `"` + strings.Repeat("x", 1<<20) + `"`, time.Now(), http.StatusRequestEntityTooLarge},
		"no POST":             {http.MethodPut, testSecret, "{}", time.Now(), http.StatusMethodNotAllowed},
	} {
		if status := postSigned(t, url, c.method, c.secret, c.body, c.at); status != c.status {
			t.Errorf("%s: %d, want %d", name, status, c.status)
		}
	}
	r.interrupted(t)
	if n := strings.Count(r.Stdout.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want those of the two that verified:\n%s", n, r.Stdout)
	}
	mention(t, r.Stderr.String(), "refused with 401", "refused with 413")
}

func postSigned(t *testing.T, url, method, secret, body string, at time.Time) (status int) {
	t.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign("msg_1", at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Webhook-Id", "msg_1")
	r.Header.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("Webhook-Signature", signature)
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}
