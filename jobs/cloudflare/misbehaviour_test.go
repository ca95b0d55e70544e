package cloudflare_test

import (
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oprelay/jobs/cloudflare"
	"oprelay/jobs/cloudflare/simulator"
)

// What a poll makes of each way in which the upstream has been seen to
// misbehave, in front of an operation that is in truth completed.
func TestPollUnderEveryMisbehaviour(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	honest := cloudflare.Answer{
		Outcome: cloudflare.Terminal, Status: cloudflare.StatusCompleted, HTTPStatus: 200,
		CompletedAt: began, Quota: &cloudflare.Quota{Remaining: 1199, Reset: 5 * time.Minute},
	}
	honestBut := func(change func(*cloudflare.Answer)) cloudflare.Answer {
		answer := honest
		change(&answer)
		return answer
	}
	wrong := func(outcome cloudflare.Outcome, status int, problem string) cloudflare.Answer {
		return cloudflare.Answer{Outcome: outcome, HTTPStatus: status, Problem: problem, Quota: honest.Quota}
	}
	const inconclusive = cloudflare.Inconclusive

	cases := map[string]cloudflare.Answer{
		"success_false":      wrong(inconclusive, 200, "success is false: 7003 No route for the URI"),
		"result_missing":     wrong(inconclusive, 200, "result is missing"),
		"result_array":       wrong(inconclusive, 200, "result is an array"),
		"foreign_id":         wrong(inconclusive, 200, `result.id is that of another operation: "ffffffffffffffffffffffffffffffff"`),
		"unknown_status":     wrong(inconclusive, 200, `result.status is unknown: "queued"`),
		"completed_empty":    honestBut(func(a *cloudflare.Answer) { a.CompletedAt = time.Time{} }),
		"completed_absent":   honestBut(func(a *cloudflare.Answer) { a.CompletedAt = time.Time{} }),
		"html":               wrong(inconclusive, 200, "HTTP 200, HTML body"),
		"status":             wrong(inconclusive, 502, "HTTP 502, HTML body"),
		"unauthorized":       wrong(cloudflare.Refused, 401, "HTTP 401: 10000 Authentication error"),
		"forbidden":          wrong(cloudflare.Refused, 403, "HTTP 403: 9109 Unauthorized to access requested resource"),
		"bad_credential":     wrong(cloudflare.Refused, 400, "HTTP 400: 6003 Invalid request headers (6111 Invalid format for Authorization header)"),
		"not_found":          wrong(cloudflare.NotFound, 404, "HTTP 404: 7003 No route for the URI"),
		"rate_limited":       wrong(cloudflare.RateLimited, 429, "HTTP 429: 10100 Rate limited"),
		"redirect":           wrong(inconclusive, 302, "HTTP 302, a redirect, which is never followed"),
		"slow":               honest,
		"hang":               {Outcome: inconclusive, Problem: "no answer: it took too long"},
		"endless":            wrong(inconclusive, 200, "HTTP 200, body over 64 KiB"),
		"truncated":          wrong(inconclusive, 200, "HTTP 200, body cut short: unexpected EOF"),
		"reset":              {Outcome: inconclusive, Problem: "no answer"},
		"ratelimit_missing":  honestBut(func(a *cloudflare.Answer) { a.Quota = nil }),
		"ratelimit_constant": honestBut(func(a *cloudflare.Answer) { a.Quota = &cloudflare.Quota{Remaining: 1199, Reset: time.Second} }),
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(simulator.Misbehaviours())), slices.Sorted(maps.Keys(cases))); diff != "" {
		t.Errorf("not every misbehaviour has a case (-known +cases):\n%s", diff)
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, err := simulator.New(simulator.Config{Now: func() time.Time { return began }})
			if err != nil {
				t.Fatal(err)
			}
			misbehaviour := simulator.Misbehaviour{Name: name, Delay: time.Millisecond}
			if err := sim.Add(account, operation, simulator.Plan{Misbehaviour: misbehaviour}); err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(sim)
			t.Cleanup(server.Close)
			timeout := cloudflare.DefaultTimeout
			if name == "hang" {
				timeout = 50 * time.Millisecond
			}
			client := cloudflare.New(cloudflare.Config{BaseURL: server.URL + "/client/v4", Timeout: timeout})
			got := client.Poll(t.Context(), testToken(), account, operation)
			if name == "reset" && strings.HasPrefix(got.Problem, "no answer: ") {
				got.Problem = "no answer" // the rest is the operating system's words
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
