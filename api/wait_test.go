package api_test

import (
	"net/http"
	"sync"
	"testing"
	"time"
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
