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
	for _, wait := range []string{"1ms", "0.05", "20ms"} {
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
	id := r.watch(r.write, r.credential(r.write), r.webhook(r.write))
	const more = 80
	var all sync.WaitGroup
	atOnce := make(chan struct{}, more)
	for range more {
		all.Go(func() {
			<-r.waiting(id, "60s")
			atOnce <- struct{}{}
		})
	}
	soon := time.After(30 * time.Second) // half of what they would wait
	for range more - 64 {                // those beyond the bound come back
		select {
		case <-atOnce:
		case <-soon:
			t.Error("requests beyond the bound wait too")
		}
	}
	r.server.Drain()
	all.Wait()
}
