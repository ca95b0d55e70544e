package simulator_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oprelay/jobs/cloudflare/simulator"
)

func TestRequestsAreRecorded(t *testing.T) {
	t.Parallel()
	sim, clock := newSimulator(t, simulator.Config{KeepRequests: 3})
	began := clock.Now()
	add(t, sim, "a/b", simulator.Plan{Misbehaviour: simulator.Misbehaviour{Name: "html"}})
	ask(t, sim, "/forgotten")
	poll(t, sim, "a%2Fb")
	clock.advance(time.Second)
	ask(t, sim, pathOf("x"), "X-Auth-Email", "a@b.c", "X-Auth-Key", "k")
	ask(t, sim, "/user")
	want := []simulator.Request{
		{
			Time: began, Credential: simulator.TokenFingerprint(token), Account: account,
			Operation: "a/b", Path: pathOf("a%2Fb"), Status: 200, Misbehaviour: "html",
		},
		{
			Time: began.Add(time.Second), Credential: simulator.EmailFingerprint("a@b.c"), Account: account,
			Operation: "x", Path: pathOf("x"), Status: 404,
		},
		{Time: began.Add(time.Second), Path: "/user", Status: 401},
	}
	if diff := cmp.Diff(want, sim.Requests()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMaxInWindow(t *testing.T) {
	t.Parallel()
	sim, clock := newSimulator(t, simulator.Config{})
	a, b := simulator.TokenFingerprint("a"), simulator.TokenFingerprint("b")
	// a at 0 0 4 9 10 20, b at 9.
	for _, step := range []struct {
		seconds int
		token   string
	}{{0, "a"}, {0, "a"}, {4, "a"}, {5, "a"}, {0, "b"}, {1, "a"}, {10, "a"}} {
		clock.advance(time.Duration(step.seconds) * time.Second)
		ask(t, sim, "/user", "Authorization", "Bearer "+step.token)
	}
	for _, test := range []struct {
		fingerprint string
		window      time.Duration
		want        int
	}{
		{a, time.Second, 2},
		{a, 10 * time.Second, 4}, // 0 0 4 9: the one at 10 is a whole window later
		{a, 11 * time.Second, 5},
		{a, time.Hour, 6},
		{b, time.Hour, 1},
		{"", 10 * time.Second, 5},
		{"", time.Hour, 7},
		{"token:none", time.Hour, 0},
	} {
		if got := sim.MaxInWindow(test.fingerprint, test.window); got != test.want {
			t.Errorf("%q in %v: got %d, want %d", test.fingerprint, test.window, got, test.want)
		}
	}
}
