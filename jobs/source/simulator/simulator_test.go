package simulator_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oprelay/jobs/source"
	"oprelay/jobs/source/simulator"
)

// began is when the clock of a test stands still.
var began = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// stand is a source's simulator, and a client that asks it.
type stand struct {
	client *source.Client
	poll   source.Poll
	passed atomic.Int64 // time since began
}

func newStand(t *testing.T, name string, change func(*simulator.Config)) *stand {
	t.Helper()
	s := &stand{client: source.NewClient(source.Config{Timeout: 5 * time.Second})}
	t.Cleanup(s.client.Close)
	server := httptest.NewUnstartedServer(nil)
	base := "http://" + server.Listener.Addr().String()
	upstream, _, _ := strings.Cut(name, ".")
	set, err := source.Load(nil, map[string]string{upstream: base})
	if err != nil {
		t.Fatal(err)
	}
	of := set.Source(name)
	config := simulator.Config{
		Source: of, PendingFor: time.Second, RunningFor: 10 * time.Second,
		Now: func() time.Time { return began.Add(time.Duration(s.passed.Load())) },
	}
	if change != nil {
		change(&config)
	}
	if server.Config.Handler, err = simulator.New(config); err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(server.Close)
	s.poll = source.Poll{Source: of, OperationID: of.OperationID.Example, Params: map[string]string{}}
	s.poll.Credential.Fields.APIToken = "token-marker"
	for _, param := range of.Params {
		s.poll.Params[param.Name] = param.Example
	}
	if of.Path == "" {
		s.poll.OperationID = base + "/subscriptions/s/operations/1?api-version=2024-07-01"
	}
	return s
}

func (s *stand) at(t *testing.T, passed time.Duration) source.Answer {
	t.Helper()
	s.passed.Store(int64(passed))
	return s.client.Poll(t.Context(), s.poll)
}

func names(t *testing.T) []string {
	t.Helper()
	set, err := source.Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range set.Sources() {
		all = append(all, s.Name)
	}
	return all
}

// An operation of each built-in source is pending or running, then running, then ends; with
// its own id, and at the time at which its end was due.
func TestLifeOfAnOperation(t *testing.T) {
	t.Parallel()
	for _, name := range names(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, end := range []source.Verdict{source.Completed, source.Failed} {
				s := newStand(t, name, func(c *simulator.Config) { c.End = string(end) })
				if other := s.poll.OperationID[:len(s.poll.OperationID)-1] + "0"; s.poll.Source.ID != "" {
					s.poll.OperationID = other // than the example's
				}
				if got := s.at(t, 0); got.Verdict != source.Pending && got.Verdict != source.Running {
					t.Errorf("at first: %+v", got)
				}
				if got := s.at(t, 2*time.Second); got.Verdict != source.Running {
					t.Errorf("after 2 s: %+v", got)
				}
				got := s.at(t, time.Hour)
				if got.Verdict != end || !got.CompletedAt.IsZero() && !got.CompletedAt.Equal(began.Add(11*time.Second)) {
					t.Errorf("at the end: %+v", got)
				}
			}
			s := newStand(t, name, func(c *simulator.Config) { c.End = "never" })
			s.at(t, 0)
			if got := s.at(t, 1000*time.Hour); got.Verdict != source.Running {
				t.Errorf("without an end: %+v", got)
			}
		})
	}
}

func TestMisbehaviours(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		verdict source.Verdict
		problem string
	}{
		"unknown_status": {source.Inconclusive, "unheard_of"},
		"status_missing": {source.Inconclusive, "missing"},
		"html":           {source.Inconclusive, "HTML"},
		"status":         {source.Inconclusive, "HTTP 502"},
		"unauthorized":   {source.Refused, "HTTP 401"},
		"forbidden":      {source.Refused, "HTTP 403"},
		"blocked":        {source.Inconclusive, "HTTP 403"},
		"not_found":      {source.NotFound, "HTTP 404"},
		"rate_limited":   {source.Limited, "HTTP 429"},
		"redirect":       {source.Inconclusive, "redirect"},
		"slow":           {source.Inconclusive, "too long"},
		"hang":           {source.Inconclusive, "too long"},
		"endless":        {source.Inconclusive, "too long"},
		"truncated":      {source.Inconclusive, "cut short"},
		"reset":          {source.Inconclusive, "reset"},
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(simulator.Misbehaviours())), slices.Sorted(maps.Keys(cases))); diff != "" {
		t.Errorf("not every misbehaviour has a case (-known +cases):\n%s", diff)
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t, "cloudflare.lists", func(c *simulator.Config) { c.Misbehave, c.Rate, c.PendingFor = name, 1, 0 })
			if name == "hang" || name == "slow" {
				s.client = source.NewClient(source.Config{Timeout: 100 * time.Millisecond})
			}
			if got := s.at(t, 0); got.Verdict != want.verdict || !strings.Contains(got.Problem, want.problem) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestCredentialsAndPaths(t *testing.T) {
	t.Parallel()
	s := newStand(t, "github.run", func(c *simulator.Config) { c.AcceptedTokens = []string{"other"} })
	if got := s.at(t, 0); got.Verdict != source.Refused || got.HTTPStatus != http.StatusUnauthorized {
		t.Errorf("another token: %+v", got)
	}
	set, err := source.Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	sim, err := simulator.New(simulator.Config{Source: set.Source("github.run")})
	if err != nil {
		t.Fatal(err)
	}
	const run = "/repos/octocat/hello/actions/runs/1"
	for path, want := range map[string]int{
		run: 200, "/api/v3" + run: 200, "/": 404, run + "/jobs": 404, "/repos/octocat/actions/runs/1": 404, "/repos/a/b/actions/runs/": 404,
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
			r.Header.Set("Authorization", "Bearer any")
			w := httptest.NewRecorder()
			sim.ServeHTTP(w, r)
			if method == http.MethodPost {
				want = http.StatusNotFound
			}
			if w.Code != want {
				t.Errorf("%s %s: %d, want %d", method, path, w.Code, want)
			}
		}
	}
}

// The same operations fail every time, as many as the rate says.
func TestFailRate(t *testing.T) {
	t.Parallel()
	s := newStand(t, "replicate.prediction", func(c *simulator.Config) { c.FailRate, c.PendingFor, c.RunningFor = 0.3, 0, 0 })
	ended := map[source.Verdict]int{}
	for i := range 200 {
		s.poll.OperationID = "op" + strings.Repeat("a", i%50) + string(rune('a'+i%26)) + string(rune('a'+i/26))
		ended[s.at(t, time.Hour).Verdict]++
	}
	if ended[source.Failed] < 30 || ended[source.Failed] > 90 || ended[source.Failed]+ended[source.Completed] != 200 {
		t.Errorf("ended %v", slices.Collect(maps.Values(ended)))
	}
}

func TestNewNamesEachFault(t *testing.T) {
	t.Parallel()
	u, err := source.Parse("acme.yaml", []byte(`{upstream: acme, title: A, auth: none, budget: 1/1s, egress: 1/1s, sources: {job: {title: J, path: '/{operation_id}',
		operation_id: '[a-z]+', status: /s, rules: [{when: {/s: d}, as: completed}], examples: [{body: {s: d}, as: completed}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = simulator.New(simulator.Config{Source: u.Sources[0], End: "failing", FailRate: 2, PendingFor: -1, Misbehave: "badly"})
	for _, part := range []string{`end "failing"`, "rate", "negative", `"badly"`, "no example that is running", "no example that is failed"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
}
