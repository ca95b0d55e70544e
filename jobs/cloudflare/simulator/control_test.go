package simulator_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"oprelay/jobs/cloudflare/simulator"
)

// Everything that Go can ask of a simulator, over HTTP.
func TestControlAPI(t *testing.T) {
	t.Parallel()
	sim, clock := newSimulator(t, simulator.Config{})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	do := func(method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode, readAll(t, resp.Body)
	}
	const path = "/_sim/operations/" + account + "/" + operation
	if code, body := do("PUT", path, `{"pending_for":"2s","running_for":"3s","end":"failed","error":"why",
		"misbehaviour":{"name":"not_found","for":"1s","times":5,"retry_after":"7s","delay":"0s"}}`); code != 204 {
		t.Fatalf("PUT: %d %s", code, body)
	}
	if w := poll(t, sim, operation); w.Code != 404 || w.Header().Get("Retry-After") != "7" {
		t.Errorf("its misbehaviour: %s", dump(w))
	}
	clock.advance(5 * time.Second)
	if got := poll(t, sim, operation).Body.String(); !strings.Contains(got, `"status":"failed"`) || !strings.Contains(got, `"error":"why"`) {
		t.Errorf("its end: %s", got)
	}
	if code, body := do("POST", "/_sim/faults", `{"name":"status","status":530,"rate":1}`); code != 204 {
		t.Fatalf("POST: %d %s", code, body)
	}
	if got := poll(t, sim, operation).Code; got != 530 {
		t.Errorf("under the fault: %d", got)
	}
	do("DELETE", "/_sim/faults", "")
	do("POST", "/_sim/faults", `{"name":"refusal","status":418,"code":9103}`)
	if w := poll(t, sim, operation); w.Code != 418 || !strings.Contains(w.Body.String(), `"code":9103`) {
		t.Errorf("a refusal: %s", dump(w))
	}
	if code, _ := do("DELETE", "/_sim/faults", ""); code != 204 || poll(t, sim, operation).Code != 200 {
		t.Errorf("the fault stayed: %d", code)
	}
	if code, _ := do("DELETE", path, ""); code != 204 || poll(t, sim, operation).Code != 404 {
		t.Errorf("the operation stayed: %d", code)
	}
	if code, _ := do("PUT", path, ""); code != 204 || poll(t, sim, operation).Code != 200 {
		t.Errorf("without a body: %d", code)
	}

	ask(t, sim, "/user", "Authorization", "Bearer other")
	code, body := do("GET", "/_sim/requests?window=5m&credential="+simulator.TokenFingerprint("other"), "")
	var requests struct {
		Total       int                 `json:"total"`
		MaxInWindow int                 `json:"max_in_window"`
		Data        []simulator.Request `json:"data"`
	}
	if err := json.Unmarshal([]byte(body), &requests); err != nil {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	if requests.Total != 8 || requests.MaxInWindow != 1 || len(requests.Data) != 1 || requests.Data[0].Path != "/user" {
		t.Errorf("requests: %s", body)
	}
}

func TestControlAPIRefusesNonsense(t *testing.T) {
	t.Parallel()
	sim, _ := newSimulator(t, simulator.Config{})
	for _, test := range []struct{ method, path, body, want string }{
		{"PUT", "/_sim/operations/a/o", `{"end":"sometimes"}`, `end "sometimes"`},
		{"PUT", "/_sim/operations/a/o", `{"pending":"2s"}`, `unknown field "pending"`},
		{"PUT", "/_sim/operations/a/o", `{"pending_for":"soon"}`, "no duration such as 1m30s"},
		{"PUT", "/_sim/operations/a/o", `{"pending_for":2}`, "cannot unmarshal"},
		{"PUT", "/_sim/operations/a/o", `{`, "unexpected EOF"},
		{"POST", "/_sim/faults", `{"name":"dances"}`, "is not one of success_false, "},
		{"POST", "/_sim/faults", ``, "a name is missing, one of success_false, "},
		{"POST", "/_sim/faults", `{"name":"html","rate":-1}`, "between 0 and 1"},
		{"GET", "/_sim/requests?window=5", ``, "no duration such as 5m"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), test.method, test.path, strings.NewReader(test.body))
		w := httptest.NewRecorder()
		sim.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s %s %s: got %d %s, want %q", test.method, test.path, test.body, w.Code, w.Body, test.want)
		}
	}
	if got := len(sim.Requests()); got != 0 {
		t.Errorf("%d control requests are on record", got)
	}
}

func TestIndexTellsEverything(t *testing.T) {
	t.Parallel()
	sim, _ := newSimulator(t, simulator.Config{})
	index := ask(t, sim, "/").Body.String()
	for _, want := range append(simulator.Misbehaviours(), "http://example.com", "/_sim/faults", "printf %s TOKEN") {
		if !strings.Contains(index, want) {
			t.Errorf("the index lacks %q", want)
		}
	}
}
