package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/webhooktest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// ending is one way in which a watch ends.
type ending struct {
	name    string
	plan    *simulator.Plan         // nil: the upstream does not know the operation
	fault   *simulator.Misbehaviour // towards the credential
	timeout int                     // seconds; 0 is the default
	status  client.WatchStatus
	event   client.EventType
}

func endings() []ending {
	quick := simulator.Plan{PendingFor: 300 * time.Millisecond, RunningFor: 500 * time.Millisecond}
	failing := quick
	failing.End = simulator.EndFailed
	endless := simulator.Plan{End: simulator.EndNever}
	return []ending{
		{name: "completed", plan: &quick, status: "completed", event: "operation.completed"},
		{name: "failed", plan: &failing, status: "failed", event: "operation.failed"},
		// The shortest timeout that the API grants: nothing here is sped up.
		{name: "expired", plan: &endless, timeout: 60, status: "expired", event: "operation.expired"},
		{name: "unknown", status: "unobservable", event: "operation.unobservable"},
		{name: "refused", plan: &quick, fault: &simulator.Misbehaviour{Name: "unauthorized"}, status: "unobservable", event: "operation.unobservable"},
	}
}

// Every watch that ends otherwise than by being canceled makes exactly one event,
// which arrives once, signed, with the body that the contract gives.
func TestEveryEndIsToldOnce(t *testing.T) {
	t.Parallel()
	for name, start := range deployments() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			destination := s.webhook(t)
			registered := map[string]client.Watch{} // all at once: one of them takes a minute
			for _, e := range endings() {
				registered[e.name] = s.begin(t, e, destination)
			}
			t.Run("ends", func(t *testing.T) {
				for _, e := range endings() {
					t.Run(e.name, func(t *testing.T) {
						t.Parallel()
						s.endsAs(t, e, registered[e.name])
					})
				}
				t.Run("canceled", func(t *testing.T) {
					t.Parallel()
					s.endsCanceled(t, destination)
				})
			})
			// A minute later, when the last has expired, nothing else has come.
			if got := s.receiver.Arrivals(); len(got) != len(endings()) {
				t.Errorf("%d webhooks arrived, want one for each of %d watches", len(got), len(endings()))
			}
		})
	}
}

// begin registers the watch that is to end so.
func (s *system) begin(t *testing.T, e ending, destination string) client.Watch {
	t.Helper()
	operation := newOperationID()
	if e.plan != nil {
		operation = s.add(*e.plan)
	}
	token := "token-" + operation
	if e.fault != nil {
		s.spoil(token, *e.fault)
	}
	request := client.NewWatch{
		OperationID: operation, CredentialID: s.credential(t, token), DestinationIds: []string{destination},
		Metadata: &client.Metadata{"deploy": "42", "by": "ö <&> \"x\""},
	}
	if e.timeout > 0 {
		request.TimeoutSeconds = &e.timeout
	}
	return s.watch(t, request)
}

func (s *system) endsAs(t *testing.T, e ending, registered client.Watch) {
	t.Helper()
	began := registered.CreatedAt
	w := s.end(t, registered.ID, startLimit+time.Duration(e.timeout)*time.Second)
	if w.Status != e.status || w.EventID == nil || w.FinishedAt == nil || w.NextPollAt != nil {
		t.Fatalf("the watch ended as %s", pretty(w))
	}
	arrival := s.arrival(t, *w.EventID)
	checkArrival(t, arrival, began)
	checkBody(t, e.name, arrival.Body, w, began)
	if asked := len(s.requests(w.Operation.ID)); w.Polls == 0 || asked < w.Polls || asked > w.Polls+1 {
		t.Errorf("%d polls, but the upstream was asked %d times", w.Polls, asked)
	}
	s.checkRecords(t, w, e.event, arrival.Body)
}

// arrival is the one request with the event's id.
func (s *system) arrival(t *testing.T, eventID string) webhooktest.Arrival {
	t.Helper()
	var found []webhooktest.Arrival
	eventually(t, startLimit, "event "+eventID+" arrives", func() bool {
		found = nil
		for _, a := range s.receiver.Arrivals() {
			if a.ID == eventID {
				found = append(found, a)
			}
		}
		return len(found) > 0
	})
	if len(found) != 1 {
		t.Errorf("event %s arrived %d times", eventID, len(found))
	}
	return found[0]
}

// checkArrival holds the request against Standard Webhooks and the contract.
func checkArrival(t *testing.T, a webhooktest.Arrival, began time.Time) {
	t.Helper()
	if a.Err != nil {
		t.Errorf("the signature does not verify: %v", a.Err)
	}
	if a.Method != http.MethodPost {
		t.Errorf("method %s, want POST", a.Method)
	}
	for name, form := range map[string]string{
		"Content-Type":      `^application/json$`,
		"User-Agent":        `^relay/` + regexp.QuoteMeta(testVersion) + `$`,
		"Traceparent":       `^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`,
		"Webhook-Signature": `^v1,[A-Za-z0-9+/]{43}=$`,
		"Webhook-Timestamp": `^[0-9]{10}$`,
	} {
		if value := a.Header.Values(name); len(value) != 1 || !regexp.MustCompile(form).MatchString(value[0]) {
			t.Errorf("header %s is %q, want one of the form %s", name, value, form)
		}
	}
	if a.At.Before(began) {
		t.Errorf("arrived at %s, before the watch was registered", a.At)
	}
}

// checkRecords holds what the API tells of the event and its delivery against
// what arrived.
func (s *system) checkRecords(t *testing.T, w client.Watch, kind client.EventType, body []byte) {
	t.Helper()
	event, err := s.api.GetEventWithResponse(t.Context(), *w.EventID)
	want(t, http.StatusOK, err, event)
	if e := event.JSON200; e.Type != kind || e.WatchID == nil || *e.WatchID != w.ID || !bytes.Equal(e.Body, body) {
		t.Errorf("the API shows the event as %s\nbut what arrived is\n%s", event.Body, body)
	}
	about := 0
	for _, e := range s.events(t) {
		if e.WatchID != nil && *e.WatchID == w.ID {
			about++
		}
	}
	if about != 1 {
		t.Errorf("%d events about the watch, want 1", about)
	}
	eventually(t, startLimit, "the delivery is recorded as accepted", func() bool {
		got := s.deliveries(t, client.ListDeliveriesParams{WatchID: &w.ID})
		return len(got) == 1 && got[0].Status == "succeeded" && got[0].AttemptsMade == 1 && got[0].EventID == *w.EventID
	})
}

// checkBody compares the body, but for what differs from run to run, with a
// golden file, and then looks at the rest.
func checkBody(t *testing.T, name string, body []byte, w client.Watch, began time.Time) {
	t.Helper()
	var sent struct {
		Timestamp string
		Data      struct {
			ObservedAt string `json:"observed_at"`
			Polls      int
			Operation  struct {
				CompletedAt string `json:"completed_at"`
			}
		}
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if sent.Data.Polls != w.Polls {
		t.Errorf("polls are %d, want %d as the watch has", sent.Data.Polls, w.Polls)
	}
	checkTime(t, "timestamp", sent.Timestamp, began)
	checkTime(t, "observed_at", sent.Data.ObservedAt, began)
	if sent.Data.Operation.CompletedAt != "" {
		checkTime(t, "completed_at", sent.Data.Operation.CompletedAt, began.Truncate(time.Second))
	}
	same := strings.NewReplacer(
		w.ID, "WATCH", w.Operation.ID, "OPERATION",
		`"timestamp":"`+sent.Timestamp, `"timestamp":"TIME`,
		`"observed_at":"`+sent.Data.ObservedAt, `"observed_at":"TIME`,
		`"completed_at":"`+sent.Data.Operation.CompletedAt, `"completed_at":"TIME`,
		fmt.Sprintf(`"polls":%d,`, sent.Data.Polls), `"polls":N,`,
	).Replace(string(body))
	path := filepath.Join("testdata", "event-"+name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(same+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if same+"\n" != string(golden) {
		t.Errorf("the body is\n%s\nwant (%s)\n%s", same, path, golden)
	}
}

// checkTime wants RFC 3339 in UTC, to the microsecond at most, and between the
// test's beginning and now.
func checkTime(t *testing.T, name, value string, began time.Time) {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, value)
	if err != nil || !regexp.MustCompile(`^[0-9T:-]{19}(\.[0-9]{1,6})?Z$`).MatchString(value) {
		t.Errorf("%s is %q, want RFC 3339 in UTC, cut to microseconds", name, value)
	}
	if at.Before(began.Truncate(time.Microsecond)) || at.After(time.Now()) {
		t.Errorf("%s is %s, want a time between %s and now", name, value, began)
	}
}

// endsCanceled cancels a watch that has been polled: no event, no more polls.
func (s *system) endsCanceled(t *testing.T, destination string) {
	t.Helper()
	operation := s.add(simulator.Plan{End: simulator.EndNever})
	w := s.watch(t, client.NewWatch{
		OperationID: operation, CredentialID: s.credential(t, "token-"+operation), DestinationIds: []string{destination},
	})
	eventually(t, startLimit, "the operation is polled", func() bool { return len(s.requests(operation)) >= 2 })
	canceled, err := s.api.CancelWatchWithResponse(t.Context(), w.ID)
	want(t, http.StatusOK, err, canceled)
	asked := len(s.requests(operation))
	if w := canceled.JSON200; w.Status != "canceled" || w.EventID != nil || w.FinishedAt == nil {
		t.Errorf("the watch was canceled as %s", pretty(w))
	}
	// Another watch's whole life passes meanwhile.
	other := s.add(simulator.Plan{RunningFor: 2 * time.Second})
	s.end(t, s.watch(t, client.NewWatch{
		OperationID: other, CredentialID: s.credential(t, "token-"+other), DestinationIds: []string{s.silent(t)},
	}).ID, startLimit)
	if now := len(s.requests(operation)); now > asked+1 {
		t.Errorf("the canceled watch's operation was polled %d more times", now-asked)
	}
	for _, e := range s.events(t) {
		if e.WatchID != nil && *e.WatchID == w.ID {
			t.Errorf("the canceled watch made the event %s", e.ID)
		}
	}
}

// silent is a destination that is not the receiver's.
func (s *system) silent(t *testing.T) string {
	t.Helper()
	url := serve(t, webhooktest.New(testSecret))
	return s.destination(t, client.NewDestination{Type: client.DestinationWebhook, URL: &url, Secret: new(testSecret)})
}

func pretty(v any) string {
	text, _ := json.MarshalIndent(v, "", " ")
	return string(text)
}
