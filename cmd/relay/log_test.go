package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/webhooktest"
)

// Every duration is a number in a log of either form, with its unit in the key.
func TestDurationsInTheLog(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"json": `"pause_ms":61500.25}`, "text": "pause_ms=61500.25\n"} {
		var said bytes.Buffer
		newLogger(config{logFormat: format}, &said).With("from", "test").Info("m", "pause", time.Minute+1500*time.Millisecond+250*time.Microsecond)
		mention(t, said.String(), want)
	}
}

// An operator who reads the log learns of each watch how it ended, and of each attempt
// that was not accepted what was answered and when the next is due.
func TestTheLogTellsWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	s.receiver.Respond(webhooktest.FirstAttempts(1, webhooktest.Answer{Status: http.StatusServiceUnavailable}))
	credential, destination := s.credential(t, "token"), s.webhook(t)
	done := s.end(t, s.watches(t, credential, destination, s.operations(1, simulator.Plan{}))[0].ID, startLimit)
	s.allAccepted(t, 1, startLimit)
	open := s.watch(t, client.NewWatch{
		OperationID: s.add(simulator.Plan{End: simulator.EndNever}), CredentialID: credential, DestinationIds: []string{destination},
	})
	canceled, err := s.api.CancelWatchWithResponse(t.Context(), open.ID)
	want(t, http.StatusOK, err, canceled)
	s.server.Stop()

	ends := s.logged(t, "a watch has ended")
	if len(ends) != 2 || ends[done.ID] == nil || ends[open.ID] == nil {
		t.Fatalf("the ends that are logged: %s", pretty(ends))
	}
	for id, w := range map[string]client.Watch{done.ID: done, open.ID: *canceled.JSON200} {
		line := ends[id]
		if line["level"] != "INFO" || line["result"] != string(w.Status) || line["operation_id"] != w.Operation.ID ||
			line["polls"] != float64(w.Polls) || line["duration_ms"] != float64(w.FinishedAt.Sub(w.CreatedAt).Microseconds())/1000 {
			t.Errorf("%s is logged as %s", pretty(w), pretty(line))
		}
	}
	refused := s.logged(t, "an attempt was not accepted; the next is planned")
	for _, line := range refused {
		planned, _ := line["next_attempt_at"].(string)
		failure, _ := line["error"].(string)
		next, err := time.Parse(time.RFC3339, planned)
		if line["level"] != "WARN" || line["destination_id"] != destination || line["status_code"] != float64(503) ||
			!strings.Contains(failure, "503") || err != nil || next.Before(done.CreatedAt) {
			t.Errorf("logged as %s", pretty(line))
		}
	}
	if len(refused) != 1 {
		t.Errorf("%d refused attempts are logged, want 1", len(refused))
	}
}

// logged are the log's lines with the message, by what they are about.
func (s *system) logged(t *testing.T, message string) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for line := range strings.Lines(s.server.Stderr.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil || fields["msg"] != message {
			continue
		}
		id, _ := fields["watch_id"].(string)
		if id == "" {
			id, _ = fields["delivery_id"].(string)
		}
		found[id] = fields
	}
	return found
}
