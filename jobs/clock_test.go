package jobs

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"oprelay/jobs/cloudflare/simulator"
	"oprelay/jobs/deliver"
	"oprelay/notifier/webhooktest"
	"oprelay/storage"
)

// The wall clock is set by an hour while messages are on their way, polls wait and
// a delivery waits for its retry: nothing is sent twice, and nothing waits longer.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		for name, step := range map[string]time.Duration{"forward": time.Hour, "back": -time.Hour} {
			t.Run(b.name+", "+name, func(t *testing.T) {
				t.Parallel()
				r := newRelay(t, b)
				r.deliver.Retry, r.deliver.Timeout = deliver.RetrySchedule{3 * time.Second}, patience
				held, open := gated(r)
				free := r.webhook(nil)
				free.Respond(webhooktest.FirstAttempts(1, webhooktest.Answer{Status: http.StatusServiceUnavailable}))
				r.start()
				r.start()
				const under = 20
				credential := r.credential("token")
				r.watchFor(2*time.Hour, credential, operations("held", under), held.id)
				r.await(held, under)
				r.add("running", simulator.Plan{RunningFor: 2 * time.Second})
				r.watchFor(2*time.Hour, credential, []string{"running", "refused"}, free.id)
				r.await(free, 1)

				r.step.Store(int64(step))
				r.settled(2, free.id, storage.DeliverySucceeded)
				refused := map[string]time.Time{}
				for _, a := range free.Arrivals() {
					if first, ok := refused[a.ID]; ok && a.At.Sub(first) < r.deliver.Retry[0] {
						t.Errorf("sent again after %v", a.At.Sub(first))
					}
					refused[a.ID] = a.At
				}
				open()
				r.settled(under, held.id, storage.DeliverySucceeded)
				if n := len(held.Arrivals()); n != under {
					t.Errorf("%d messages were sent, want %d", n, under)
				}
			})
		}
	}
}

// gated is a receiver that takes messages in, and answers none until it is opened.
func gated(r *relay) (receiver, func()) {
	r.t.Helper()
	gate := make(chan struct{})
	stand := r.webhook(nil)
	id := r.webhook(func(n *storage.NewDestination) {
		stand.Trust(string(n.Secret.Signing[0].Value))
		n.URL = serve(r.t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			answer := httptest.NewRecorder()
			stand.ServeHTTP(answer, q)
			select {
			case <-gate:
			case <-q.Context().Done():
			}
			w.WriteHeader(answer.Code)
		}))
	}).id
	return receiver{stand.Receiver, id}, func() { close(gate) }
}
