package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/webhooktest"
)

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

// traced registers a watch with a traceparent, and returns its event's arrivals once
// there are so many.
func (s *system) traced(t *testing.T, traceparent string, arrivals int) []webhooktest.Arrival {
	t.Helper()
	w, err := s.api.CreateWatchWithResponse(t.Context(), nil, client.NewWatch{
		AccountID: new(testAccount), OperationID: s.add(simulator.Plan{RunningFor: 500 * time.Millisecond}),
		CredentialID: s.credential(t, "token-"+newOperationID()), DestinationIds: []string{s.webhook(t)},
	}, func(_ context.Context, r *http.Request) error {
		if traceparent != "" {
			r.Header.Set("Traceparent", traceparent)
		}
		return nil
	})
	want(t, http.StatusCreated, err, w)
	ended := s.end(t, w.JSON201.ID, startLimit)
	var came []webhooktest.Arrival
	eventually(t, startLimit, "the attempts have arrived", func() bool {
		came = slices.DeleteFunc(s.receiver.Arrivals(), func(a webhooktest.Arrival) bool { return a.ID != *ended.EventID })
		return len(came) >= arrivals
	})
	return came
}

// One trace tells of a watch from its registration, which is its caller's child, by
// way of the polls to each attempt, across processes; the receiver's traceparent is
// the attempt.
func TestOneTraceFromRegistrationToDelivery(t *testing.T) {
	t.Parallel()
	traces := &collector{t: t}
	s := startSeparate(t, newSurroundings(t), testenv.Redis(t), 1, "RELAY_TRACES_ENDPOINT", serve(t, traces), "RELAY_TRACES_SAMPLE", "0")
	s.receiver.Respond(webhooktest.FirstAttempts(1, webhooktest.Answer{Status: http.StatusServiceUnavailable}))
	arrivals := s.traced(t, "00-"+callersTrace+"-"+callersSpan+"-01", 2)
	s.workers[0].Stop() // which sends the last spans
	s.server.Stop()

	registrations := traces.named("POST /v1/watches")
	if len(registrations) != 1 {
		t.Fatalf("%d requests are in a trace, want the one that came with a traceparent", len(registrations))
	}
	registration := registrations[0]
	if registration.service != "relay-api" || hex.EncodeToString(registration.GetParentSpanId()) != callersSpan ||
		value(registration.Attributes, "http.response.status_code").GetIntValue() != http.StatusCreated ||
		text(registration.Attributes, "http.route") != "/v1/watches" {
		t.Errorf("the registration's span is %v", registration)
	}
	polls, attempts := traces.named("poll cloudflare.lists"), traces.named("deliver webhook")
	for _, span := range slices.Concat(polls, attempts, registrations) {
		if hex.EncodeToString(span.GetTraceId()) != callersTrace {
			t.Errorf("a span of another trace: %v", span)
		}
	}
	for _, span := range slices.Concat(polls, attempts) {
		if span.service != "relay-worker" || !bytes.Equal(span.GetParentSpanId(), registration.GetSpanId()) ||
			span.GetEndTimeUnixNano() <= span.GetStartTimeUnixNano() {
			t.Errorf("not a worker's span below the registration's: %v", span)
		}
	}
	if len(polls) == 0 || text(polls[len(polls)-1].Attributes, "relay.operation.status") != "completed" {
		t.Errorf("the last poll did not find the end: %v", polls)
	}
	if len(attempts) != 2 || len(arrivals) != 2 {
		t.Fatalf("%d attempts are in the trace and %d arrived, want 2", len(attempts), len(arrivals))
	}
	for i, outcome := range []string{"passing", "accepted"} {
		wanted := "00-" + callersTrace + "-" + hex.EncodeToString(attempts[i].GetSpanId()) + "-01"
		if got := arrivals[i].Header.Get("Traceparent"); got != wanted {
			t.Errorf("attempt %d came with the traceparent %q, want %q", i+1, got, wanted)
		}
		if got := text(attempts[i].Attributes, "relay.attempt.outcome"); got != outcome {
			t.Errorf("attempt %d is %q, want %q: %v", i+1, got, outcome, attempts[i])
		}
	}
	if failed := attempts[0]; text(failed.Attributes, "error.type") != "503" || failed.GetStatus().GetMessage() == "" ||
		text(failed.Attributes, "server.address") != "127.0.0.1" {
		t.Errorf("the refused attempt says %v", failed)
	}
}

// Without a collector a caller's traceparent is passed on, and whatever else came
// makes no difference: each event is a trace of its own then, and not sampled.
func TestTraceparentWithoutTraces(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	valid := "00-" + callersTrace + "-" + callersSpan
	for traceparent, passedOn := range map[string]string{
		valid + "-01": valid + "-01",
		valid + "-00": valid + "-00",
		"cc-" + callersTrace + "-" + callersSpan + "-01-what-will-be": valid + "-01", // a version to come
		"":                             "",
		valid + "-01-more":             "",
		valid + "-1":                   "",
		valid + "-zz":                  "",
		strings.ToUpper(valid) + "-01": "",
		"ff-" + callersTrace + "-" + callersSpan + "-01":                "",
		"00-" + strings.Repeat("0", 32) + "-" + callersSpan + "-01":     "",
		"00-" + callersTrace + "-" + strings.Repeat("0", 16) + "-01":    "",
		"00-" + strings.Repeat("a", 20_000) + "-" + callersSpan + "-01": "",
		"'; DROP TABLE watches; --":                                     "",
	} {
		t.Run(traceparent[:min(len(traceparent), 60)], func(t *testing.T) {
			t.Parallel()
			got := s.traced(t, traceparent, 1)[0].Header.Get("Traceparent")
			ownTrace := len(got) == len(valid+"-00") && strings.HasSuffix(got, "-00") && !strings.Contains(got, callersTrace)
			if passedOn != "" && got != passedOn || passedOn == "" && !ownTrace {
				t.Errorf("the receiver got %q, want %q", got, passedOn)
			}
		})
	}
}

// A collector that refuses costs spans and a line in the log, which does not quote
// what it answers. One that never answers does not hold up the stop either.
func TestCollectorInTrouble(t *testing.T) {
	t.Parallel()
	const header = "collectors-secret-1b2c3d"
	traces := &collector{t: t, refusing: true}
	s := startEmbedded(t, newSurroundings(t), "RELAY_TRACES_ENDPOINT", serve(t, traces), "RELAY_TRACES_HEADERS", "x-api-key="+header,
		"OTEL_BSP_SCHEDULE_DELAY", "100")
	for range 2 {
		asked := traces.requests()
		s.traced(t, "", 1)
		eventually(t, startLimit, "spans are sent", func() bool { return traces.requests() > asked })
	}
	s.server.Stop()
	said := s.server.Stderr.String()
	if n := strings.Count(said, "the collector of traces takes no spans"); n != 1 || strings.Contains(said, header) {
		t.Errorf("the log says so %d times, want once, and no header of the collector's:\n%s", n, said)
	}
	if got := traces.heads[0].Get("X-Api-Key"); got != header {
		t.Errorf("the collector got the header %q", got)
	}

	silent := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	s = startEmbedded(t, newSurroundings(t), "RELAY_TRACES_ENDPOINT", silent)
	s.traced(t, "", 1)
	s.server.Stop()
	mention(t, s.server.Stderr.String(), "the last spans are lost")
}
