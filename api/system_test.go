package api_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"oprelay/api"
	"oprelay/deploy/testenv"
)

func contains(answer reply, text string) bool { return strings.Contains(string(answer.body), text) }

func TestSystemPagesNeedNoKey(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := newRelay(t, func(c *api.Config) { c.Metrics, c.Gatherer = registry, registry })
	for path, text := range map[string]string{
		"/healthz":      `"status":"ok"`,
		"/readyz":       `"status":"ok"`,
		"/openapi.yaml": "openapi: 3.0.3",
		"/docs":         `id="problem-invalid"`,
		"/metrics":      `relay_http_requests_total{method="GET",route="/healthz",status="2xx"}`,
	} {
		r.do("", http.MethodGet, "/healthz", "")
		if answer := r.do("", http.MethodGet, path, ""); answer.status != http.StatusOK || !contains(answer, text) {
			t.Errorf("%s: %d without %q", path, answer.status, text)
		}
	}
}

func TestHeadAnswersAsGetWithoutABody(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := newRelay(t, func(c *api.Config) { c.Metrics, c.Gatherer = registry, registry })
	watchID := r.watch(r.write, r.credential(r.write), r.webhook(r.write))
	tests := []struct {
		key, path string
		status    int
	}{
		{"", "/healthz", 200},
		{"", "/readyz", 200},
		{"", "/openapi.yaml", 200},
		{"", "/docs", 200},
		{"", "/metrics", 200},
		{r.write, "/v1/watches/" + watchID, 200},
		{r.write, "/v1/events", 200},
		{"", "/v1/watches", 401},
		{r.write, "/v1/keys", 403},
		{r.write, "/v1/watches/x", 404},
		{r.write, "/nothing", 404},
		{r.write, "/v1/watches?limit=0", 422},
	}
	for _, test := range tests {
		get := r.do(test.key, http.MethodGet, test.path, "")
		head := r.do(test.key, http.MethodHead, test.path, "")
		if head.status != test.status || get.status != test.status || len(head.body) > 0 {
			t.Errorf("%s: HEAD %d with %d bytes, GET %d, want %d", test.path, head.status, len(head.body), get.status, test.status)
		}
		for _, name := range []string{"Content-Type", "WWW-Authenticate", "Content-Security-Policy", "Cache-Control"} {
			if got, want := head.header.Get(name), get.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, of GET %q", test.path, name, got, want)
			}
		}
	}
	if log := r.log.String(); !strings.Contains(log, `"method":"HEAD","route":"/v1/events"`) {
		t.Error("the log does not tell HEAD from GET")
	}
}

func TestDocsRunNothingAndFetchNothing(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	page := r.do("", http.MethodGet, "/docs", "")
	policy := page.header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	if contains(page, "<script") || regexp.MustCompile(`src=|<link|@import|url\(`).Match(page.body) {
		t.Error("the page loads something")
	}
	for _, o := range protected(t) {
		if !contains(page, `<span class="path">`+o.path+`</span>`) {
			t.Errorf("the page leaves out %s %s", o.method, o.path)
		}
	}
}

// Without Redis the work goes on, so the process is ready, and says what it lacks.
func TestReadinessWithoutRedisIsDegraded(t *testing.T) {
	t.Parallel()
	r := newRelay(t, func(c *api.Config) {
		c.Ready = map[string]func(context.Context) error{"redis": func(context.Context) error { return errors.New("refused by 10.0.0.7") }}
	})
	answer := r.do("", http.MethodGet, "/readyz", "")
	const want = `{"parts":{"database":{"status":"ok"},"redis":{"detail":"does not answer","status":"away"}},"status":"degraded"}`
	if answer.status != http.StatusOK || strings.TrimSpace(string(answer.body)) != want {
		t.Errorf("%d %s, want %s", answer.status, answer.body, want)
	}
}

// A database that answers is of no use while it lacks migrations or takes no writes.
func TestReadinessSaysWhyTheDatabaseIsOfNoUse(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgresServer(t)
	r := newRelayOn(t, server.URL, func(c *api.Config) {
		c.Ready = map[string]func(context.Context) error{"redis": func(context.Context) error { return nil }}
	})
	for _, trouble := range []struct{ begin, end, says string }{
		{
			"UPDATE goose_db_version SET version_id = -version_id WHERE version_id = (SELECT MAX(version_id) FROM goose_db_version)",
			"UPDATE goose_db_version SET version_id = -version_id WHERE version_id < 0",
			"database lacks migrations: run relay migrate up; redis answers",
		},
		{
			"ALTER SYSTEM SET default_transaction_read_only = on",
			"ALTER SYSTEM SET default_transaction_read_only = off",
			"database takes no writes, for it only reads (a standby, or set so); redis answers",
		},
	} {
		testenv.Execute(t, server.URL, trouble.begin)
		testenv.Execute(t, server.URL, "SELECT pg_reload_conf()")
		r.awaitStatus(http.StatusServiceUnavailable, "/readyz", func() {
			_ = r.do(r.write, http.MethodPost, "/v1/credentials", `{"name":"x","api_token":"t"}`) // whose write finds it out
		})
		if answer := r.do("", http.MethodGet, "/readyz", ""); !contains(answer, trouble.says) {
			t.Errorf("%d %s, want %q", answer.status, answer.body, trouble.says)
		}
		if answer := r.do(r.write, http.MethodGet, "/v1/credentials", ""); answer.status != http.StatusOK {
			t.Errorf("a read meanwhile: %d %s", answer.status, answer.body)
		}
		testenv.Execute(t, server.URL, trouble.end)
		testenv.Execute(t, server.URL, "SELECT pg_reload_conf()")
		r.awaitReady()
	}
}

// Whoever hammers a page that needs no key does not fill the log.
func TestReadinessIsLoggedWhenItChanges(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	r := newRelay(t, func(c *api.Config) {
		c.Ready = map[string]func(context.Context) error{"redis": func(context.Context) error {
			if away.Load() {
				return errors.New("refused")
			}
			return nil
		}}
	})
	for _, state := range []struct {
		away   bool
		status string
		line   string
		lines  int // with that of the states before
	}{
		{false, "ok", "", 0},
		{true, "degraded", `"level":"WARN","msg":"a part is away","part":"redis","error":"refused"`, 1},
		{false, "ok", `"level":"INFO","msg":"a part is back","part":"redis"`, 2},
		{true, "degraded", `"level":"WARN","msg":"a part is away","part":"redis","error":"refused"`, 3},
	} {
		away.Store(state.away)
		for range 5 {
			if answer := r.do("", http.MethodGet, "/readyz", ""); answer.status != http.StatusOK || !contains(answer, `"`+state.status+`"`) {
				t.Errorf("%d, want %s: %s", answer.status, state.status, answer.body)
			}
		}
		log := r.log.String()
		lines := strings.Count(log, "\n") - strings.Count(log, `"level":"DEBUG"`)
		if lines != state.lines || !strings.Contains(log, state.line) {
			t.Errorf("%d lines that are not for debugging, want %d with %s:\n%s", lines, state.lines, state.line, log)
		}
	}
}

// Whoever hammers a page that needs no key asks a part that hangs but once.
func TestReadinessIsAskedOnceAtATime(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	entered, open := make(chan struct{}, 100), make(chan struct{})
	r := newRelay(t, func(c *api.Config) {
		c.Ready = map[string]func(context.Context) error{"redis": func(context.Context) error {
			asked.Add(1)
			entered <- struct{}{}
			<-open
			return nil
		}}
	})
	const many = 50
	var all sync.WaitGroup
	waiting := make(chan struct{}, many)
	for range many {
		ctx := &telling{Context: t.Context(), waiting: waiting}
		all.Go(func() {
			answer := httptest.NewRecorder()
			r.server.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", http.NoBody))
			if answer.Code != http.StatusOK {
				t.Errorf("%d %s", answer.Code, answer.Body)
			}
		})
	}
	<-entered
	for range many {
		<-waiting
	}
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if _, err := r.try(gone, "", http.MethodGet, "/readyz", ""); err == nil {
		t.Error("a client that hung up was answered")
	}
	close(open)
	all.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("%d requests asked %d times, want once", many, n)
	}
}

// telling is a context that tells when somebody waits for its end.
type telling struct {
	context.Context

	once    sync.Once
	waiting chan<- struct{}
}

func (c *telling) Done() <-chan struct{} {
	c.once.Do(func() { c.waiting <- struct{}{} })
	return c.Context.Done()
}

func TestMetricsAreGatheredForAFewAtOnce(t *testing.T) {
	t.Parallel()
	entered, open := make(chan struct{}, 100), make(chan struct{})
	r := newRelay(t, func(c *api.Config) {
		registry := prometheus.NewRegistry()
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "slow", Help: "Waits."}, func() float64 {
			entered <- struct{}{}
			<-open
			return 1
		}))
		c.Gatherer = registry
	})
	const most = 4
	statuses := make(chan int, most)
	for range most {
		go func() {
			answer, err := r.try(context.WithoutCancel(t.Context()), "", http.MethodGet, "/metrics", "")
			if err != nil {
				t.Error(err)
			}
			statuses <- answer.status
		}()
	}
	for range most {
		<-entered
	}
	if answer := r.do("", http.MethodGet, "/metrics", ""); answer.status != http.StatusServiceUnavailable || answer.header.Get("Retry-After") == "" {
		t.Errorf("one more: %d %s", answer.status, answer.body)
	}
	close(open)
	for range most {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("%d", status)
		}
	}
}

func TestRoutesThatAreNotThere(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	for _, path := range []string{"/", "/v1", "/v1/", "/v2/watches", "/v1/watches/", "/metrics", "/v1/watches/a/b"} {
		if answer := r.do(r.write, http.MethodGet, path, ""); answer.status != http.StatusNotFound || !contains(answer, "/docs") {
			t.Errorf("%s: %d %s", path, answer.status, answer.body)
		}
	}
	answer := r.do(r.write, http.MethodPut, "/v1/watches", "")
	if allow := answer.header.Get("Allow"); answer.status != http.StatusMethodNotAllowed || !strings.Contains(allow, "POST") {
		t.Errorf("PUT: %d, Allow %q", answer.status, allow)
	}
}

func TestAnswersCarryTheirNameAndGuards(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	given := r.do(r.write, http.MethodGet, "/v1/watches", "", withHeader("X-Request-Id", "deploy-42"))
	if got := given.header.Get("X-Request-ID"); got != "deploy-42" {
		t.Errorf("a sane id becomes %q", got)
	}
	odd := r.do("", http.MethodGet, "/v1/watches", "", withHeader("X-Request-Id", `"><script>`))
	if id := odd.header.Get("X-Request-ID"); len(id) < 20 || id != odd.problem.RequestID {
		t.Errorf("an odd id becomes %q, in the problem %q", id, odd.problem.RequestID)
	}
	for name, value := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "DENY",
		"Access-Control-Allow-Origin": "", "WWW-Authenticate": `Bearer realm="oprelay"`,
	} {
		if got := odd.header.Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

// faulty is an egress check with a bug in it.
type faulty struct{}

func (faulty) CheckURL(context.Context, string) error { panic("the cause") }

func TestAPanicIsAProblemAndItsCauseIsLogged(t *testing.T) {
	t.Parallel()
	r := newRelay(t, func(c *api.Config) { c.Egress = faulty{} })
	answer := r.do(r.write, http.MethodPost, "/v1/destinations", `{"type":"webhook","name":"x","url":"`+publicURL+`"}`, key("k"))
	if answer.status != http.StatusInternalServerError || contains(answer, "the cause") {
		t.Errorf("%d %s", answer.status, answer.body)
	}
	if log := r.log.String(); !strings.Contains(log, "the cause") || !strings.Contains(log, answer.problem.RequestID) {
		t.Errorf("the log does not tell the cause by the request's id:\n%s", log)
	}
	// The panic has given its reservation up.
	corrected := r.do(r.write, http.MethodPost, "/v1/destinations", `{"type":"slack","name":"x","bot_token":"b","channel":"c"}`, key("k"))
	if corrected.status != http.StatusCreated {
		t.Errorf("with the same key: %d %s", corrected.status, corrected.body)
	}
}
