package api_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oprelay/api"
)

// waiting starts a request that waits for the watch and returns its answer.
func (r *relay) waiting(id, wait string) <-chan reply {
	answers := make(chan reply, 1)
	go func() {
		defer close(answers)
		if answer, err := r.try(r.t.Context(), r.write, http.MethodGet, "/v1/watches/"+id+"?wait="+wait, ""); err == nil {
			answers <- answer
		}
	}()
	return answers
}

func TestWaitingEndsWithTheWatch(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	id := r.watch(r.write, r.credential(r.write), r.webhook(r.write))
	answers := r.waiting(id, "60s")
	select {
	case answer := <-answers:
		t.Fatalf("it did not wait: %s", answer.body)
	case <-time.After(50 * time.Millisecond):
	}
	r.do(r.write, http.MethodDelete, "/v1/watches/"+id, "")
	if answer := <-answers; answer.status != http.StatusOK || !contains(answer, `"status":"canceled"`) {
		t.Errorf("%d %s", answer.status, answer.body)
	}
	if answer := <-r.waiting(id, "60"); !contains(answer, `"status":"canceled"`) {
		t.Errorf("an ended watch needs no waiting: %s", answer.body)
	}
}

func TestWaitingEndsWithItsTime(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	id := r.watch(r.write, r.credential(r.write), r.webhook(r.write))
	for _, wait := range []string{"0", "0s", "0.0001ms", "1ms", "0.05", "20ms"} {
		if answer := <-r.waiting(id, wait); !contains(answer, `"status":"watching"`) {
			t.Errorf("wait=%s: %d %s", wait, answer.status, answer.body)
		}
	}
}

func TestWaitingEndsWithTheServer(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	id := r.watch(r.write, r.credential(r.write), r.webhook(r.write))
	answers := r.waiting(id, "60s")
	r.server.Drain()
	r.server.Drain()
	if answer := <-answers; answer.status != http.StatusOK || !contains(answer, `"status":"watching"`) {
		t.Errorf("%d %s", answer.status, answer.body)
	}
}

func TestAKeyHasABoundOfWaitingRequests(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	credentialID, destinationID := r.credential(r.write), r.webhook(r.write)
	id, ended := r.watch(r.write, credentialID, destinationID), r.watch(r.write, credentialID, destinationID)
	r.do(r.write, http.MethodDelete, "/v1/watches/"+ended, "")
	const more = 80
	var all sync.WaitGroup
	answers := make(chan reply, more)
	for range more {
		all.Go(func() { answers <- <-r.waiting(id, "60s") })
	}
	soon := time.After(30 * time.Second) // half of what they would wait
	for range more - 64 {                // those beyond the bound come back
		select {
		case answer := <-answers:
			if answer.status != http.StatusTooManyRequests || answer.header.Get("Retry-After") != "1" {
				t.Errorf("beyond the bound: %d %s", answer.status, answer.body)
			}
		case <-soon:
			t.Fatal("requests beyond the bound wait too")
		}
	}
	for path, says := range map[string]string{id: "watching", id + "?wait=0": "watching", ended + "?wait=60s": "canceled"} {
		if answer := r.do(r.write, http.MethodGet, "/v1/watches/"+path, ""); !contains(answer, `"status":"`+says+`"`) {
			t.Errorf("%s needs no waiting: %d %s", path, answer.status, answer.body)
		}
	}
	r.server.Drain()
	all.Wait()
	close(answers)
	for answer := range answers {
		if answer.status != http.StatusOK {
			t.Errorf("within the bound: %d %s", answer.status, answer.body)
		}
	}
}

// A client that hangs up while it waits is counted by itself: an alert counts the failures.
func TestAClientThatHangsUpIsNoFailure(t *testing.T) {
	t.Parallel()
	metrics := prometheus.NewRegistry()
	r := newRelay(t, func(c *api.Config) { c.Metrics = metrics })
	id := r.watch(r.write, r.credential(r.write), r.webhook(r.write))
	counted := func() (classes []string) {
		families, err := metrics.Gather()
		must(t, err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() != "relay_http_requests_total" || !strings.Contains(m.String(), "/v1/watches/:watch_id") {
					continue
				}
				for _, label := range m.GetLabel() {
					if label.GetName() == "status" {
						classes = append(classes, label.GetValue())
					}
				}
			}
		}
		return classes
	}
	eventually(t, func() bool { // on a busy machine it may hang up before it has asked
		ctx, hangUp := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer hangUp()
		if answer, err := r.try(ctx, r.write, http.MethodGet, "/v1/watches/"+id+"?wait=60s", ""); err == nil {
			t.Errorf("it did not wait: %s", answer.body)
		}
		return len(counted()) > 0
	}, "the request to be counted")
	if got := counted(); !slices.Equal(got, []string{"canceled"}) {
		t.Errorf("it is counted as %v", got)
	}
}
