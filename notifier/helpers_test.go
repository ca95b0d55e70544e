package notifier_test

import (
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"oprelay/notifier"
	"oprelay/notifier/egress"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	testSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	testEvent   = "event_01kay5v2s5f0rs2m5j7cw9q4te"
)

// newClient is a client that may reach this machine.
func newClient(t *testing.T, edit func(*notifier.Config)) *notifier.Client {
	t.Helper()
	cfg := notifier.Config{
		Version: "1.2.3",
		Egress:  egress.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	}
	if edit != nil {
		edit(&cfg)
	}
	client := notifier.New(cfg)
	t.Cleanup(client.Close)
	return client
}

func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func testMessage() notifier.Message {
	return notifier.Message{
		EventID: testEvent,
		Type:    "operation.failed",
		Body:    []byte(`{"type":"operation.failed","data":{"error":"<&>  ü"}}`),
		Facts:   testFacts("failed"),
	}
}

// failureOf is the *notifier.Error that every failed send must be.
func failureOf(t *testing.T, err error) *notifier.Error {
	t.Helper()
	var failure *notifier.Error
	if !errors.As(err, &failure) {
		t.Fatalf("got %v (%T), want a *notifier.Error", err, err)
	}
	return failure
}

func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

func testFacts(status string) notifier.Facts {
	started := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	facts := notifier.Facts{
		Status:      status,
		WatchID:     "watch_01kay5v2s5f0rs2m5j7cw9q4te",
		Source:      "cloudflare.lists",
		Params:      map[string]string{"account_id": "023e105f4ecef8ad9ca31a8372d0c353"},
		OperationID: "4da8780eeb215e6cb7f48dd981c4ea02",
		StartedAt:   started,
		Polls:       7,
		Metadata:    map[string]string{"deploy": "42", "by": "ops"},
		Link:        "https://relay.example.com/watches/watch_01kay5v2s5f0rs2m5j7cw9q4te",
	}
	switch status {
	case "watching", "pending", "running":
		return facts
	case "failed":
		facts.Error = "This list is at the maximum number of items"
	case "expired":
		facts.Reason = "deadline"
	case "unobservable":
		facts.Reason = "not_found"
	}
	facts.Type = "operation." + status
	facts.EndedAt = started.Add(200 * time.Second)
	return facts
}
