package main

import (
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/webhooktest"
)

// Three processes spend one budget: the upstream never counts more than it allows
// in any window, wherever that begins, and the budget is not left unused either.
func TestWorkersShareACredentialsBudget(t *testing.T) {
	t.Parallel()
	// A tenth of the window is what a request may take from its charge to the upstream, on
	// a busy machine too.
	const budget, window, operations = 30, 9 * time.Second, 80
	s := startSeparate(t, newSurroundings(t), testenv.Redis(t), 3, "RELAY_POLL_BUDGET", "30/9s")
	ids := s.operations(operations, simulator.Plan{})
	s.watches(t, s.credential(t, "token"), s.webhook(t), ids)
	if _, err := s.receiver.Wait(deadline(t, time.Minute), webhooktest.Verified(operations)); err != nil {
		t.Fatalf("%v; %d of %d events arrived", err, len(s.receiver.Arrivals()), operations)
	}
	most := s.upstream.MaxInWindow(simulator.TokenFingerprint("token"), window)
	if most > budget {
		t.Errorf("%d requests within %s, the budget is %d", most, window, budget)
	}
	if most < budget/2 {
		t.Errorf("at most %d requests within %s, of %d that the budget allows", most, window, budget)
	}
}

// A 429 stops the polls of all operations of its credential, in every process,
// and those of no other credential.
func TestLockOutStopsOneCredential(t *testing.T) {
	t.Parallel()
	s := startSeparate(t, newSurroundings(t), testenv.Redis(t), 2)
	destination := s.webhook(t)
	endless := simulator.Plan{End: simulator.EndNever}
	s.watches(t, s.credential(t, "locked"), destination, s.operations(20, endless))
	s.watches(t, s.credential(t, "free"), destination, s.operations(20, endless))
	locked, free := simulator.TokenFingerprint("locked"), simulator.TokenFingerprint("free")
	eventually(t, startLimit, "both credentials are polled", func() bool {
		return s.count(locked, time.Time{}) > 40 && s.count(free, time.Time{}) > 40
	})

	// Once only: whoever asked again would be answered.
	s.spoil("locked", simulator.Misbehaviour{Name: "rate_limited", Times: 1, RetryAfter: 7 * time.Second})
	var at time.Time
	eventually(t, startLimit, "a poll is answered 429", func() bool {
		for _, r := range s.upstream.Requests() {
			if r.Status == 429 {
				at = r.Time
			}
		}
		return !at.IsZero()
	})
	// Requests under way at that moment may still come in.
	const underWay = time.Second
	eventually(t, startLimit, "the other credential goes on for 9 s", func() bool { return s.count(free, at.Add(9*time.Second)) > 0 })
	if n := s.count(locked, at.Add(underWay)); n > 0 {
		t.Errorf("%d polls with the credential later than %s after its 429", n, underWay)
	}
	for second := range 9 {
		from := at.Add(time.Duration(second) * time.Second)
		if s.count(free, from) == s.count(free, from.Add(time.Second)) {
			t.Errorf("no poll with the other credential in second %d after the 429", second)
		}
	}
}

// count is the number of requests with the credential since then.
func (s *surroundings) count(fingerprint string, since time.Time) int {
	n := 0
	for _, r := range s.upstream.Requests() {
		if r.Credential == fingerprint && !r.Time.Before(since) {
			n++
		}
	}
	return n
}
