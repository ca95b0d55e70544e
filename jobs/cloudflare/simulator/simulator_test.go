package simulator_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oprelay/jobs/cloudflare/simulator"
)

const (
	account   = "023e105f4ecef8ad9ca31a8372d0c353"
	operation = "4da8780eeb215e6cb7f48dd981c4ea02"
	token     = "any-token"
)

var update = flag.Bool("update", false, "write the golden files anew")

// clock moves only when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2020, 1, 1, 8, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newSimulator(t *testing.T, config simulator.Config) (*simulator.Simulator, *clock) {
	t.Helper()
	time := newClock()
	config.Now = time.Now
	sim, err := simulator.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return sim, time
}

func add(t *testing.T, sim *simulator.Simulator, id string, plan simulator.Plan) {
	t.Helper()
	if err := sim.Add(account, id, plan); err != nil {
		t.Fatal(err)
	}
}

// ask polls without a network; header is a list of names and values.
func ask(t *testing.T, handler http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

func pathOf(id string) string {
	return "/accounts/" + account + "/rules/lists/bulk_operations/" + id
}

func poll(t *testing.T, handler http.Handler, id string) *httptest.ResponseRecorder {
	t.Helper()
	return ask(t, handler, pathOf(id), "Authorization", "Bearer "+token)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name + ".golden"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// dump is a response as text, headers sorted.
func dump(w *httptest.ResponseRecorder) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", w.Code)
	_ = w.Header().Write(&b)
	b.WriteString("\n" + w.Body.String() + "\n")
	return b.String()
}

func TestPlanRunsItsCourse(t *testing.T) {
	t.Parallel()
	sim, clock := newSimulator(t, simulator.Config{})
	plan := simulator.Plan{PendingFor: 2 * time.Second, RunningFor: 3 * time.Second}
	add(t, sim, "completes", plan)
	plan.End, plan.Error = simulator.EndFailed, "why"
	add(t, sim, "fails", plan)
	plan.End = simulator.EndNever
	add(t, sim, "never", plan)
	for _, step := range []struct {
		after time.Duration
		want  map[string]string
	}{
		{0, map[string]string{"completes": "pending", "fails": "pending", "never": "pending"}},
		{1999 * time.Millisecond, map[string]string{"completes": "pending"}},
		{2 * time.Second, map[string]string{"completes": "running", "fails": "running", "never": "running"}},
		{4999 * time.Millisecond, map[string]string{"completes": "running"}},
		{5 * time.Second, map[string]string{"completes": "completed", "fails": "failed", "never": "running"}},
		{time.Hour, map[string]string{"completes": "completed", "fails": "failed", "never": "running"}},
	} {
		clock.advance(newClock().now.Add(step.after).Sub(clock.Now()))
		for id, want := range step.want {
			if got := poll(t, sim, id).Body.String(); !strings.Contains(got, `"status":"`+want+`"`) {
				t.Errorf("%s after %v: got %s, want %s", id, step.after, got, want)
			}
		}
	}
	golden(t, "failed", dump(poll(t, sim, "fails")))
	golden(t, "completed", dump(poll(t, sim, "completes")))
	golden(t, "running", dump(poll(t, sim, "never")))
}

// The bodies are those of Cloudflare's documentation, byte for byte.
func TestShapesAreTheSeeds(t *testing.T) {
	t.Parallel()
	sim, _ := newSimulator(t, simulator.Config{})
	add(t, sim, operation, simulator.Plan{End: simulator.EndFailed})
	for id, file := range map[string]string{operation: "seed-success.json", "unknown": "seed-failure.json"} {
		want, err := os.ReadFile("../../source/testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSpace(string(want)), poll(t, sim, id).Body.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	sim, _ := newSimulator(t, simulator.Config{})
	add(t, sim, "a/b?c", simulator.Plan{})
	for path, want := range map[string]int{
		pathOf("a%2Fb%3Fc"):                200,
		"/client/v4" + pathOf("a%2Fb%3Fc"): 200,
		pathOf("a/b"):                      404,
		pathOf(""):                         404,
		"/accounts/other/rules/lists/bulk_operations/a%2Fb%3Fc": 404,
		"/user/tokens/verify":         404,
		pathOf("x") + "/../../verify": 404,
	} {
		if got := ask(t, sim, path, "Authorization", "Bearer t").Code; got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, pathOf("a%2Fb%3Fc"), nil)
	r.Header.Set("Authorization", "Bearer t")
	w := httptest.NewRecorder()
	if sim.ServeHTTP(w, r); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d", w.Code)
	}
}

func TestUnknownOperationsRunTheDefaultPlan(t *testing.T) {
	t.Parallel()
	config := simulator.Config{
		Default:  &simulator.Plan{RunningFor: 10 * time.Second},
		FailRate: 0.2,
		Limit:    simulator.Limit{Requests: -1},
	}
	failed := func() string {
		sim, clock := newSimulator(t, config)
		const n = 1000
		for i := range n {
			if body := poll(t, sim, fmt.Sprint("op", i)).Body.String(); !strings.Contains(body, `"running"`) {
				t.Fatalf("first sight: %s", body)
			}
		}
		clock.advance(10 * time.Second)
		if body := poll(t, sim, "late").Body.String(); !strings.Contains(body, `"running"`) {
			t.Errorf("first sight of a later one: %s", body)
		}
		var ids []string
		for i := range n {
			body := poll(t, sim, fmt.Sprint("op", i)).Body.String()
			if strings.Contains(body, `"failed"`) {
				ids = append(ids, strconv.Itoa(i))
			} else if !strings.Contains(body, `"completed"`) {
				t.Errorf("at its end: %s", body)
			}
		}
		if len(ids) < n*15/100 || len(ids) > n*25/100 {
			t.Errorf("%d of %d failed", len(ids), n)
		}
		return strings.Join(ids, " ")
	}
	if first, second := failed(), failed(); first != second {
		t.Error("other operations failed the second time")
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	open, _ := newSimulator(t, simulator.Config{})
	strict, _ := newSimulator(t, simulator.Config{AcceptedTokens: []string{"good"}})
	for _, test := range []struct {
		header       []string
		open, strict int
	}{
		{nil, 401, 401},
		{[]string{"Authorization", "Bearer "}, 401, 401},
		{[]string{"Authorization", "Basic good"}, 401, 401},
		{[]string{"X-Auth-Email", "a@b.c"}, 401, 401},
		{[]string{"X-Auth-Key", "good"}, 401, 401},
		{[]string{"Authorization", "Bearer bad"}, 200, 403},
		{[]string{"Authorization", "Bearer good"}, 200, 200},
		{[]string{"X-Auth-Email", "a@b.c", "X-Auth-Key", "bad"}, 200, 403},
		{[]string{"X-Auth-Email", "a@b.c", "X-Auth-Key", "good"}, 200, 200},
	} {
		for sim, want := range map[*simulator.Simulator]int{open: test.open, strict: test.strict} {
			add(t, sim, operation, simulator.Plan{})
			got := ask(t, sim, pathOf(operation), test.header...)
			if got.Code != want {
				t.Errorf("%v: got %d %s, want %d", test.header, got.Code, got.Body, want)
			}
		}
	}
	golden(t, "unauthorized", dump(ask(t, strict, pathOf(operation))))
	golden(t, "forbidden", dump(ask(t, strict, pathOf(operation), "Authorization", "Bearer bad")))
}

func TestNewAndAddRefuseNonsense(t *testing.T) {
	t.Parallel()
	for _, config := range []simulator.Config{
		{FailRate: -0.1},
		{FailRate: 1.1},
		{Default: &simulator.Plan{End: "sometimes"}},
	} {
		if _, err := simulator.New(config); err == nil {
			t.Errorf("accepted %+v", config)
		}
	}
	sim, _ := newSimulator(t, simulator.Config{})
	for _, plan := range []simulator.Plan{
		{End: "sometimes"},
		{PendingFor: -1},
		{Misbehaviour: simulator.Misbehaviour{Name: "dances"}},
		{Misbehaviour: simulator.Misbehaviour{Status: 503}},
		{Misbehaviour: simulator.Misbehaviour{Name: "status", Status: 99}},
		{Misbehaviour: simulator.Misbehaviour{Name: "slow", Delay: -1}},
	} {
		if err := sim.Add(account, operation, plan); err == nil {
			t.Errorf("accepted %+v", plan)
		}
	}
	for _, fault := range []simulator.Fault{
		{},
		{Rate: 2, Misbehaviour: simulator.Misbehaviour{Name: "html"}},
		{Misbehaviour: simulator.Misbehaviour{Name: "dances"}},
	} {
		if err := sim.AddFault(fault); err == nil {
			t.Errorf("accepted %+v", fault)
		}
	}
}

func readAll(t *testing.T, body io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
