package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/webhooktest"
)

// gated is a receiver that takes its time: it tells of each request on arrived and
// answers once the gate is closed.
func (s *system) gated(t *testing.T) (destination string, arrived <-chan struct{}, gate chan struct{}) {
	t.Helper()
	came := make(chan struct{}, 10)
	gate = make(chan struct{})
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		select {
		case <-gate:
			s.receiver.ServeHTTP(w, r)
		case <-t.Context().Done():
		}
	}))
	return s.destination(t, client.NewDestination{Type: client.DestinationWebhook, URL: &url, Secret: new(testSecret)}), came, gate
}

// A delivery under way when the process is asked to stop is finished, and
// recorded once.
func TestStopLetsADeliveryFinish(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	destination, arrived, gate := s.gated(t)
	w := s.watches(t, s.credential(t, "token"), destination, s.operations(1, simulator.Plan{}))[0]
	select {
	case <-arrived:
	case <-time.After(startLimit):
		t.Fatal("nothing arrived")
	}
	s.server.Terminate()
	if _, ok := s.server.Stderr.Wait(deadline(t, startLimit), `"msg":"stopping`, s.server.Ended); !ok {
		t.Fatal("the process does not say that it stops")
	}
	close(gate)
	// The embedded relay stops within RELAY_DELIVERY_TIMEOUT (10 s) plus 5 s; here
	// nothing holds it up any more.
	if code := s.server.Wait(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	if got := s.receiver.Arrivals(); len(got) != 1 || got[0].Err != nil {
		t.Errorf("%d webhooks arrived: %v", len(got), got)
	}

	s.restart()
	deliveries := s.deliveries(t, client.ListDeliveriesParams{WatchID: &w.ID})
	if len(deliveries) != 1 || deliveries[0].Status != client.DeliverySucceeded || deliveries[0].AttemptsMade != 1 {
		t.Errorf("after the stop the deliveries are %s", pretty(deliveries))
	}
	got, err := s.api.GetDeliveryWithResponse(t.Context(), deliveries[0].ID)
	want(t, http.StatusOK, err, got)
	if attempts := got.JSON200.Attempts; attempts == nil || len(*attempts) != 1 {
		t.Errorf("the attempts are %s", pretty(attempts))
	}
	s.server.Stop()
	if got := s.receiver.Arrivals(); len(got) != 1 {
		t.Errorf("%d webhooks arrived after the restart", len(got))
	}
}

// A closed terminal (SIGHUP) and Ctrl-C (SIGINT) stop the process as a service
// manager does; what nohup protects goes on.
func TestSignalsThatStop(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		s := startEmbedded(t, newSurroundings(t))
		s.server.Signal(signal)
		if code := s.server.Wait(startLimit); code != exitOK {
			t.Errorf("%s: exit code %d, want 0", signal, code)
		}
		mention(t, s.server.Stderr.String(), `"msg":"stopping`, `"msg":"stopped"`)
	}
	path, err := relayBinary()
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, Program: testenv.StartProgram(t, "/bin/sh", t.TempDir(), newSurroundings(t).environment(),
		"-c", `trap "" HUP; exec "$0" serve`, path)}
	r.awaitUp(t, "serve")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var ignored uint64
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "SigIgn: %x", &ignored)
	}
	if ignored&(1<<(syscall.SIGHUP-1)) == 0 {
		t.Error("SIGHUP is no longer ignored")
	}
	r.Stop()
}

// A receiver that never answers does not hold up the stop for longer than an
// attempt may take, and its event is not lost.
func TestStopDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second
	s := startEmbedded(t, newSurroundings(t), "RELAY_DELIVERY_TIMEOUT", timeout.String())
	s.receiver.Respond(webhooktest.Always(webhooktest.Answer{Hang: true}))
	s.watches(t, s.credential(t, "token"), s.webhook(t), s.operations(1, simulator.Plan{}))
	if _, err := s.receiver.Wait(deadline(t, startLimit), webhooktest.Count(1)); err != nil {
		t.Fatal(err)
	}
	s.server.Terminate()
	if code := s.server.Wait(timeout + stopMargin + 2*time.Second); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	s.receiver.Respond(webhooktest.Always(webhooktest.Answer{}))
	s.restart()
	s.allAccepted(t, 1, startLimit)
}
