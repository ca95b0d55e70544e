package simulator_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"oprelay/jobs/cloudflare/simulator"
)

func statuses(t *testing.T, sim *simulator.Simulator, id string, n int) string {
	t.Helper()
	var all strings.Builder
	for range n {
		fmt.Fprintf(&all, "%d ", poll(t, sim, id).Code)
	}
	return all.String()
}

func TestMisbehaviourOfOneOperation(t *testing.T) {
	t.Parallel()
	sim, clock := newSimulator(t, simulator.Config{})
	add(t, sim, "late", simulator.Plan{Misbehaviour: simulator.Misbehaviour{Name: "not_found", For: 10 * time.Second}})
	add(t, sim, "twice", simulator.Plan{Misbehaviour: simulator.Misbehaviour{Name: "unauthorized", Times: 2}})
	add(t, sim, "good", simulator.Plan{})
	if got := statuses(t, sim, "late", 2) + statuses(t, sim, "good", 1); got != "404 404 200 " {
		t.Errorf("before its time: %s", got)
	}
	if got := statuses(t, sim, "twice", 4); got != "401 401 200 200 " {
		t.Errorf("twice: %s", got)
	}
	clock.advance(10 * time.Second)
	if got := statuses(t, sim, "late", 1); got != "200 " {
		t.Errorf("after its time: %s", got)
	}
	w := poll(t, sim, "good")
	if sim.Remove(account, "good"); w.Code != 200 || poll(t, sim, "good").Code != 404 {
		t.Error("a removed operation is still known")
	}
}

func TestFaultOfOneCredentialAndItsEnd(t *testing.T) {
	t.Parallel()
	sim, _ := newSimulator(t, simulator.Config{})
	add(t, sim, operation, simulator.Plan{})
	fault := simulator.Fault{
		Credential: simulator.EmailFingerprint("a@b.c"),
		Misbehaviour: simulator.Misbehaviour{
			Name: "status", Status: 521, RetryAfter: 1500 * time.Millisecond,
		},
	}
	if err := sim.AddFault(fault); err != nil {
		t.Fatal(err)
	}
	w := ask(t, sim, pathOf(operation), "X-Auth-Email", "a@b.c", "X-Auth-Key", "k")
	if w.Code != 521 || w.Header().Get("Retry-After") != "2" {
		t.Errorf("its credential: %d %v", w.Code, w.Header())
	}
	if got := poll(t, sim, operation); got.Code != http.StatusOK {
		t.Errorf("another credential: %d", got.Code)
	}
	sim.ClearFaults()
	if w := ask(t, sim, pathOf(operation), "X-Auth-Email", "a@b.c", "X-Auth-Key", "k"); w.Code != http.StatusOK {
		t.Errorf("after the end: %d", w.Code)
	}
}

func TestRandomFaultsAreRepeatable(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (string, int) {
		sim, _ := newSimulator(t, simulator.Config{Seed: seed, Limit: simulator.Limit{Requests: -1}})
		add(t, sim, operation, simulator.Plan{})
		if err := sim.AddFault(simulator.Fault{Rate: 0.3, Misbehaviour: simulator.Misbehaviour{Name: "status"}}); err != nil {
			t.Fatal(err)
		}
		all := statuses(t, sim, operation, 500)
		bad := 0
		for _, r := range sim.Requests() {
			if r.Status == http.StatusBadGateway {
				bad++
			}
		}
		return all, bad
	}
	first, bad := run(7)
	if bad < 110 || bad > 190 {
		t.Errorf("%d of 500 went wrong", bad)
	}
	if second, _ := run(7); second != first {
		t.Error("the same seed went another way")
	}
	if other, _ := run(8); other == first {
		t.Error("another seed went the same way")
	}
}

func TestLockOut(t *testing.T) {
	t.Parallel()
	limit := simulator.Limit{Requests: 3, Window: 10 * time.Second, Block: time.Minute}
	sim, clock := newSimulator(t, simulator.Config{Limit: limit})
	add(t, sim, operation, simulator.Plan{})
	if got := statuses(t, sim, operation, 2); got != "200 200 " {
		t.Fatalf("within the limit: %s", got)
	}
	clock.advance(9 * time.Second)
	w := poll(t, sim, operation)
	if got := w.Header().Get("Ratelimit"); got != `"default";r=0;t=1` {
		t.Errorf("the last one: %s", got)
	}
	clock.advance(time.Second) // the first two no longer count
	if got := statuses(t, sim, operation, 3); got != "200 200 429 " {
		t.Fatalf("as the window slides: %s", got)
	}
	golden(t, "locked", dump(poll(t, sim, operation)))
	if other := ask(t, sim, pathOf(operation), "Authorization", "Bearer other"); other.Code != http.StatusOK {
		t.Errorf("another credential: %d", other.Code)
	}
	if anything := ask(t, sim, "/user", "Authorization", "Bearer "+token); anything.Code != http.StatusTooManyRequests {
		t.Errorf("another path: %d", anything.Code)
	}
	clock.advance(59 * time.Second)
	if got := statuses(t, sim, operation, 1); got != "429 " {
		t.Errorf("a second too early: %s", got)
	}
	clock.advance(time.Second)
	if got := statuses(t, sim, operation, 3); got != "200 200 200 " {
		t.Errorf("afterwards: %s", got)
	}
}
