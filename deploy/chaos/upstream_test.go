package chaos

import (
	"math"
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
	// spoiled is the share of the upstream's answers that are wrong, each in one of its ways.
	spoiled = 0.3
	// odd is the share of the others that each way has which is only unusual.
	odd = 0.01
	// A budget that the load needs most of.
	budget, budgetWindow = 400, 10 * time.Second
)

// unusual are the misbehaviours whose answers are right all the same.
func unusual() []string {
	return []string{"completed_empty", "completed_absent", "slow", "ratelimit_missing", "ratelimit_constant"}
}

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
	wrong := r.spoil()
	parked := r.newLoad()
	parked.credentials = []string{locked}
	for range 3 {
		parked.register(batchSize, func() simulator.Plan { return simulator.Plan{} })
	}

	r.endure(t, fault{order: 60, name: "upstream: 30% of its answers wrong, in all its ways", patient: true, inject: func(t *testing.T, e *episode) {
		t.Helper()
		await(t, theForm().wrong)
		e.upstream.ClearFaults()
		r.spoiledEnough(t, wrong)
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

// spoil has the upstream answer wrongly, and else unusually, and returns the ways in
// which it is wrong. The first fault that is drawn for a request is taken, so each is
// drawn from what those before have left. What rests a credential for minutes is not among
// them: a 429, and a quota that is used up.
func (r *rig) spoil() (wrong []string) {
	r.t.Helper()
	for _, name := range simulator.Misbehaviours() {
		if name != "rate_limited" && name != "ratelimit_exhausted" && !slices.Contains(unusual(), name) {
			wrong = append(wrong, name)
		}
	}
	each := spoiled / float64(len(wrong))
	for i, name := range wrong {
		r.fault(simulator.Fault{Rate: each / (1 - float64(i)*each), Misbehaviour: simulator.Misbehaviour{Name: name}})
	}
	for _, name := range unusual() {
		r.fault(simulator.Fault{Rate: odd, Misbehaviour: simulator.Misbehaviour{Name: name, Delay: time.Second}})
	}
	return wrong
}

// spoiledEnough holds the share of wrong answers so far to what it is meant to be,
// within what chance does once in a million times. In the long form every way must
// have been taken.
func (r *rig) spoiledEnough(t *testing.T, wrong []string) {
	t.Helper()
	taken, all := map[string]int{}, 0
	for _, request := range r.upstream.Requests() {
		if request.Credential != simulator.TokenFingerprint("locked") {
			taken[request.Misbehaviour]++
			all++
		}
	}
	bad := 0
	for _, name := range wrong {
		bad += taken[name]
	}
	share, deviation := float64(bad)/float64(all), math.Sqrt(spoiled*(1-spoiled)/float64(all))
	t.Logf("%d of %d answers were wrong: %v", bad, all, taken)
	if all < 100 || math.Abs(share-spoiled) > 5*deviation {
		t.Errorf("%d of %d answers were wrong, want %.0f%%", bad, all, 100*spoiled)
	}
	for _, name := range append(wrong, unusual()...) {
		if *long && taken[name] == 0 {
			t.Errorf("no answer was %s", name)
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
