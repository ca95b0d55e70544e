package main

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
)

const (
	testAccount = "023e105f4ecef8ad9ca31a8372d0c353"
	// testSecret signs the webhooks of every destination.
	testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	testBot    = "xoxb-test-token"
	// lookEvery is how often a test looks for what nobody tells it of.
	lookEvery = 50 * time.Millisecond
)

// surroundings are what a relay under test talks to: stand-ins in the test's own
// process, which outlive the relay's.
type surroundings struct {
	t        *testing.T
	upstream *simulator.Simulator
	slack    *slacktest.Server
	receiver *webhooktest.Receiver

	upstreamURL, slackURL, receiverURL string
}

func newSurroundings(t *testing.T) *surroundings {
	t.Helper()
	upstream, err := simulator.New(simulator.Config{Limit: simulator.Limit{Requests: -1}})
	if err != nil {
		t.Fatal(err)
	}
	s := &surroundings{
		t: t, upstream: upstream,
		slack:    slacktest.New(slacktest.Options{Token: testBot}),
		receiver: webhooktest.New(testSecret),
	}
	s.upstreamURL, s.slackURL, s.receiverURL = serve(t, s.upstream), serve(t, s.slack), serve(t, s.receiver)
	return s
}

// serve is the URL of the handler until the test ends.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// environment is a relay's amid these surroundings: everything is quick, and the
// budgets are no hindrance.
func (s *surroundings) environment() environment {
	return environment{
		"RELAY_LISTEN":             "127.0.0.1:0",
		"RELAY_CLOUDFLARE_URL":     s.upstreamURL + "/client/v4",
		"RELAY_SLACK_URL":          s.slackURL + slacktest.APIPath,
		"RELAY_EGRESS_ALLOW":       "127.0.0.0/8",
		"RELAY_POLL_MIN":           "200ms",
		"RELAY_POLL_MAX":           "1s",
		"RELAY_POLL_BUDGET":        "100000/5m",
		"RELAY_POLL_EGRESS_BUDGET": "10000/1s",
		"RELAY_UNOBSERVABLE_AFTER": "2s",
		"RELAY_RETRY_SCHEDULE":     "1s,1s,1s,1s,1s,1s",
		"RELAY_DELIVERY_TIMEOUT":   "10s",
		"RELAY_LOG_FORMAT":         "json",
	}
}

// add makes an operation known upstream and returns its id.
func (s *surroundings) add(plan simulator.Plan) string {
	s.t.Helper()
	id := newOperationID()
	if err := s.upstream.Add(testAccount, id, plan); err != nil {
		s.t.Fatal(err)
	}
	return id
}

func newOperationID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// requests are those about the operation.
func (s *surroundings) requests(operationID string) []simulator.Request {
	var about []simulator.Request
	for _, r := range s.upstream.Requests() {
		if r.Operation == operationID {
			about = append(about, r)
		}
	}
	return about
}

// spoil makes the upstream misbehave towards one API token.
func (s *surroundings) spoil(token string, m simulator.Misbehaviour) {
	s.t.Helper()
	if err := s.upstream.AddFault(simulator.Fault{Credential: simulator.TokenFingerprint(token), Misbehaviour: m}); err != nil {
		s.t.Fatal(err)
	}
}

// eventually waits until the condition holds, for what no event tells of.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	up := time.NewTimer(limit)
	defer up.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-up.C:
			t.Fatalf("not within %s: %s", limit, what)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}
