package main

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"oprelay/deploy/testenv"
	"oprelay/notifier"
)

// serve is the handler as a stand-in that needs no process.
func serve(t *testing.T, handler http.Handler) *standIn {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &standIn{&testenv.Standalone{URL: server.URL}}
}

// The upstream holds what it is told to hold, ends the rest in time, and remembers
// when it first told of an end.
func TestUpstream(t *testing.T) {
	t.Parallel()
	u := serve(t, newUpstream())
	status := func(o operation) string {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			u.URL+"/client/v4/accounts/"+account+"/rules/lists/bulk_operations/"+o.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := new(http.Client).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		answer := new(strings.Builder)
		if err := response.Write(answer); err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(answer.String(), `"status":"`)
		word, _, _ := strings.Cut(after, `"`)
		return word
	}
	over, later := until(time.Now(), 2), until(time.Now().Add(time.Hour), 3)
	for o, want := range map[operation]string{hold(1): "running", over: "completed", later: "running"} {
		if got := status(o); got != want {
			t.Errorf("%s is %q, want %q", o, got, want)
		}
	}
	if err := u.ask(t.Context(), http.MethodPost, "release", nil); err != nil {
		t.Fatal(err)
	}
	if got := status(hold(1)); got != "completed" {
		t.Errorf("released it is %q", got)
	}
	if err := u.ask(t.Context(), http.MethodGet, "asked/3", nil); err != nil {
		t.Error(err)
	}
	var report upstreamReport
	if err := u.ask(t.Context(), http.MethodGet, "report", &report); err != nil {
		t.Fatal(err)
	}
	if report.Answers != 4 || report.Operations != 3 || report.Told[1] <= report.Told[2] || report.Told[3] != 0 ||
		report.Asked[1] == 0 || report.Asked[1] >= report.Told[1] {
		t.Errorf("it reports %+v", report)
	}
}

// The receiver tells events from duplicates and from forgeries.
func TestReceiver(t *testing.T) {
	t.Parallel()
	secret := notifier.NewSecret()
	handler, err := newReceiver(secret)
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, handler)
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	send := func(event string, number uint64, spoil string) {
		t.Helper()
		body := `{"data":{"watch_id":"w","operation":{"account_id":"a","id":"` + hold(number).String() + `"}}}`
		now := time.Now()
		signature, err := signer.Sign(event, now, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/webhook/here", strings.NewReader(body+spoil))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Webhook-Id", event)
		request.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
		request.Header.Set("Webhook-Signature", signature)
		response, err := new(http.Client).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if accepted := response.StatusCode == http.StatusNoContent; accepted == (spoil != "") {
			t.Errorf("%s was answered %s", event, response.Status)
		}
	}
	send("one", 1, "")
	send("one", 1, "")
	send("two", 2, "")
	send("three", 3, " ")
	if err := r.ask(t.Context(), http.MethodGet, "events/here/2", nil); err != nil {
		t.Error(err)
	}
	var got inboxReport
	if err := r.ask(t.Context(), http.MethodGet, "report/here", &got); err != nil {
		t.Fatal(err)
	}
	if got.Events != 2 || got.Duplicates != 1 || got.Unverified != 1 || len(got.Arrived) != 2 || got.Arrived[2] <= got.Arrived[1] {
		t.Errorf("it reports %+v", got)
	}
}
