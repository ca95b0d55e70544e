package chaos

import (
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
)

const (
	// spoiled is the share of the upstream's answers that go wrong.
	spoiled = 0.3
	// A budget that the load needs most of.
	budget, budgetWindow = 400, 10 * time.Second
)

// Three answers in ten are wrong, each in one of the upstream's ways, drawn at
// random; and one credential is locked out. No verdict is wrong, and no
// credential asks more than its budget allows.
func TestUpstreamMisbehaves(t *testing.T) {
	t.Parallel()
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3, "RELAY_POLL_BUDGET", strconv.Itoa(budget)+"/"+budgetWindow.String())
	locked := r.credential("locked")
	r.fault(simulator.Fault{Credential: simulator.TokenFingerprint("locked"), Misbehaviour: simulator.Misbehaviour{
		Name: "rate_limited", RetryAfter: time.Minute,
	}})
	// A 429 locks a credential out for five minutes: the one above is for it.
	ways := slices.DeleteFunc(simulator.Misbehaviours(), func(name string) bool { return name == "rate_limited" })
	for _, name := range ways {
		r.fault(simulator.Fault{Rate: spoiled / float64(len(ways)), Misbehaviour: simulator.Misbehaviour{Name: name, Delay: time.Second}})
	}
	parked := r.newLoad()
	parked.credentials = []string{locked}
	for range 3 {
		parked.register(batchSize, func() simulator.Plan { return simulator.Plan{} })
	}

	r.endure(t, fault{order: 60, name: "upstream: 30% of its answers wrong, in all its ways", patient: true, inject: func(t *testing.T, e *episode) {
		t.Helper()
		await(t, 9*theForm().spell)
		e.upstream.ClearFaults()
		e.recovered()
	}})

	for token := range r.credentials {
		fingerprint := simulator.TokenFingerprint("token-" + strconv.Itoa(token))
		if n := r.upstream.MaxInWindow(fingerprint, budgetWindow); n > budget {
			t.Errorf("credential %d made %d requests within %s, its budget is %d", token, n, budgetWindow, budget)
		}
	}
	refused := 0
	for _, request := range r.upstream.Requests() {
		if request.Credential == simulator.TokenFingerprint("locked") {
			refused++
			if request.Status != http.StatusTooManyRequests {
				t.Errorf("the credential that was locked out asked again: %+v", request)
			}
		}
	}
	if most := 3 * batchSize; refused == 0 || refused > most {
		t.Errorf("the credential that is locked out made %d requests, want one for each operation at most, %d", refused, most)
	}
	for _, e := range parked.books.all() {
		got, err := r.client.GetWatchWithResponse(t.Context(), e.watch, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.JSON200 == nil || got.JSON200.Status != client.WatchStatusWatching {
			t.Errorf("watch %s of the credential that is locked out: %s", e.watch, got.Body)
		}
	}
}

// fault makes the upstream misbehave.
func (r *rig) fault(f simulator.Fault) {
	r.t.Helper()
	if err := r.upstream.AddFault(f); err != nil {
		r.t.Fatal(err)
	}
}
