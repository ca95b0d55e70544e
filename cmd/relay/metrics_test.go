package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
)

// What a relay exports is named by Prometheus's conventions, and is what
// deploy/prometheus/metrics.md tells of: no more, no less.
func TestMetricsAreWellNamedAndDocumented(t *testing.T) {
	t.Parallel()
	p := startInProcess(t)
	problems, err := testutil.GatherAndLint(p.metrics)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	readme, err := os.ReadFile("../../deploy/prometheus/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := named("`(relay_[a-z_]+)`", string(readme))
	exported := named(`fqName: "(relay_[a-z_]+)"`, describeAll(p.metrics))
	if !slices.Equal(exported, documented) {
		t.Errorf("exported are\n%v\ndeploy/prometheus/metrics.md tells of\n%v", exported, documented)
	}
}

// startInProcess starts relay serve in the test's own process, where what it
// registers can be looked at.
func startInProcess(t *testing.T) *process {
	t.Helper()
	env := environment{
		"RELAY_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "relay.db"), "RELAY_LISTEN": "127.0.0.1:0",
	}
	all := roles{api: true, worker: true}
	cfg, err := load(newServe(env), env, all.settings)
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(t.Context(), cfg, all, slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return p
}

// describeAll is what all metrics say of themselves, those without a series too.
func describeAll(r *prometheus.Registry) string {
	var all strings.Builder
	descs := make(chan *prometheus.Desc)
	go func() { r.Describe(descs); close(descs) }()
	for d := range descs {
		fmt.Fprintln(&all, d)
	}
	return all.String()
}

// named are the names that the pattern's group finds, sorted, each once.
func named(pattern, text string) (names []string) {
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		names = append(names, match[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Everything that happens once is counted once.
func TestMetricsCountWhatHappens(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t), "RELAY_POLL_BUDGET", "30/1h")
	s.receiver.Respond(func(a webhooktest.Arrival) webhooktest.Answer {
		if a.Path == "/broken" || a.Path == "/second" && a.Attempt == 1 {
			return webhooktest.Answer{Status: http.StatusInternalServerError}
		}
		return webhooktest.Answer{}
	})
	at := func(path string) string {
		return s.destination(t, client.NewDestination{Type: client.DestinationWebhook, URL: new(s.receiverURL + path), Secret: new(testSecret)})
	}
	good, second, broken, disabled := at("/"), at("/second"), at("/broken"), at("/disabled")
	slack := s.destination(t, client.NewDestination{Type: client.DestinationSlack, WebhookURL: new(s.slackURL + slacktest.WebhookPath)})
	done, err := s.api.DisableDestinationWithResponse(t.Context(), disabled, nil)
	want(t, http.StatusOK, err, done)
	credential, locked, spent := s.credential(t, "token"), s.credential(t, "locked"), s.credential(t, "spent")
	s.spoil("locked", simulator.Misbehaviour{Name: "rate_limited", RetryAfter: time.Hour})
	register := func(credential string, plan simulator.Plan, destinations ...string) client.Watch {
		return s.watch(t, client.NewWatch{OperationID: s.add(plan), CredentialID: credential, DestinationIds: destinations})
	}
	endless := simulator.Plan{End: simulator.EndNever}
	canceled := register(spent, endless, good)
	cancel, err := s.api.CancelWatchWithResponse(t.Context(), canceled.ID)
	want(t, http.StatusOK, err, cancel)
	ends := []client.Watch{
		register(credential, simulator.Plan{}, good, broken, slack),
		register(credential, simulator.Plan{}, second),
		register(credential, simulator.Plan{End: simulator.EndFailed}, good),
		s.watch(t, client.NewWatch{OperationID: newOperationID(), CredentialID: credential, DestinationIds: []string{good}}), // unknown
	}
	register(locked, endless, good)
	for range 40 {
		register(spent, endless, good)
	}
	for _, w := range ends {
		s.end(t, w.ID, startLimit)
	}
	if _, err := s.receiver.Wait(deadline(t, startLimit), func(all []webhooktest.Arrival) bool {
		return slices.ContainsFunc(all, func(a webhooktest.Arrival) bool { return a.Path == "/second" && a.Attempt == 2 })
	}); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]float64{
		`relay_watches_registered_total`:                                             46,
		`relay_watches_ended_total{status="completed"}`:                              2,
		`relay_watches_ended_total{status="failed"}`:                                 1,
		`relay_watches_ended_total{status="unobservable"}`:                           1,
		`relay_watches_ended_total{status="canceled"}`:                               1,
		`relay_watches_ended_total{status="expired"}`:                                0,
		`relay_delivery_delay_seconds_count{attempt="first",kind="webhook"}`:         3,
		`relay_delivery_delay_seconds_count{attempt="retry",kind="webhook"}`:         1,
		`relay_delivery_delay_seconds_bucket{attempt="retry",kind="webhook",le="1"}`: 0, // the schedule's delay
		`relay_delivery_delay_seconds_count{attempt="first",kind="slack"}`:           1,
		`relay_delivery_delay_seconds_count{attempt="retry",kind="slack"}`:           0,
		`relay_budgets{state="parked"}`:                                              1,
		`relay_budgets{state="exhausted"}`:                                           0,
		`relay_budgets{state="scarce"}`:                                              1,
		`relay_budget_left_ratio_bucket{le="0"}`:                                     1,
		`relay_budget_left_ratio_count`:                                              3,
		`relay_destinations{state="enabled"}`:                                        3,
		`relay_destinations{state="failing"}`:                                        1,
		`relay_destinations{state="disabled"}`:                                       1,
		`relay_queue_tasks{kind="poll"}`:                                             0,
		`relay_queue_tasks{kind="deliver"}`:                                          0,
		`relay_redis_up`:                                                             1,
		`relay_database_up`:                                                          1,
	}
	var got scraped
	var text string
	t.Cleanup(func() { // after eventually, which does not come back in vain
		if t.Failed() {
			t.Logf("not as wanted: %q\n%s", got.lacks(wanted), text)
		}
	})
	eventually(t, startLimit, "all is counted", func() bool {
		got, text = scrape(t, s.server)
		polls := got.sum("relay_polls_total")
		return len(got.lacks(wanted)) == 0 && polls > 0 && polls == got["relay_poll_lag_seconds_count"] && polls == got["relay_poll_duration_seconds_count"]
	})
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// 50 tenants have no more series than one, and none that tells of one of them.
func TestMetricsStayAsManyAsTheyAre(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	var secrets []string
	begin := func(i int) {
		token := fmt.Sprint("token-of-one-", i)
		d := s.destination(t, client.NewDestination{
			Type: client.DestinationWebhook, URL: new(fmt.Sprint(s.receiverURL, "/path-of-one-", i)), Secret: new(testSecret),
		})
		w := s.watch(t, client.NewWatch{
			OperationID: s.add(simulator.Plan{}), CredentialID: s.credential(t, token), DestinationIds: []string{d},
		})
		secrets = append(secrets, token, "path-of-one", w.Operation.ID, w.CredentialID, d, w.ID, s.key)
	}
	tenant := func(i int) {
		made := call(t.Context(), s.env.with("RELAY_DATABASE_URL", "sqlite:"+s.folder+"/relay.db"),
			"keys", "create", "--tenant", fmt.Sprint("tenant-of-one-", i), "--name", "tests", "--scope", "admin")
		if made.code != exitOK {
			t.Fatalf("keys create: %+v", made)
		}
		s.key = strings.TrimSpace(made.stdout)
		s.api = s.server.client(s.key)
		begin(i)
	}
	arrived := func(n int) {
		t.Helper()
		if _, err := s.receiver.Wait(deadline(t, startLimit), webhooktest.Verified(n)); err != nil {
			t.Fatal(err)
		}
	}
	tenant(0)
	arrived(1)
	scrape(t, s.server) // which has series too, once it has been answered
	first, _ := scrape(t, s.server)
	const tenants = 50
	for i := 1; i < tenants; i++ {
		tenant(i)
	}
	arrived(tenants)
	all, text := scrape(t, s.server)
	if diff := cmp.Diff(first.names(), all.names()); diff != "" {
		t.Errorf("more tenants have other series (-one +%d):\n%s", tenants, diff)
	}
	for _, secret := range append(secrets, "of-one", testAccount, testSecret) {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in the metrics", secret)
		}
	}
	if id := regexp.MustCompile(`[a-z]+_[0-9a-hjkmnp-tv-z]{26}`).FindString(text); id != "" {
		t.Errorf("an id is in the metrics: %s", id)
	}
}

// While a store does not answer, a scrape tells so, and all that it knows without.
func TestMetricsWithoutTheStores(t *testing.T) {
	t.Parallel()
	database, redis := testenv.StartProxy(t, testenv.Postgres(t)), testenv.StartProxy(t, testenv.Redis(t))
	s := startSeparate(t, newSurroundings(t), redis.URL, 1, "RELAY_DATABASE_URL", database.URL, "RELAY_METRICS_LISTEN", "127.0.0.1:0")
	processes := map[string]*relay{"api": s.server, "worker": s.workers[0]}
	fromDatabase := []string{"relay_oldest_overdue_seconds", "relay_budgets", "relay_destinations"}
	fromRedis := []string{"relay_queue_tasks"}
	check := func(what string, up map[string]float64, told, untold []string) {
		t.Helper()
		for role, process := range processes {
			var got scraped
			eventually(t, startLimit, what+": the "+role+" tells", func() bool {
				got, _ = scrape(t, process)
				return len(got.lacks(up)) == 0
			})
			series := strings.Join(got.names(), "\n")
			for _, name := range told {
				if !strings.Contains(series, "\n"+name+"{") {
					t.Errorf("%s: the %s does not tell of %s", what, role, name)
				}
			}
			for _, name := range untold {
				if strings.Contains(series, "\n"+name+"{") {
					t.Errorf("%s: the %s tells of %s", what, role, name)
				}
			}
			if _, ok := got["relay_watches_registered_total"]; !ok {
				t.Errorf("%s: the %s does not tell what it counts by itself", what, role)
			}
		}
	}
	both := append(slices.Clone(fromDatabase), fromRedis...)
	check("both answer", map[string]float64{"relay_database_up": 1, "relay_redis_up": 1}, both, nil)
	ready := func(what string, status int, says string) {
		t.Helper()
		for role, process := range processes {
			got, body := page(t, "http://"+process.metricsAddress(t)+"/readyz")
			if got != status || !strings.Contains(body, says) {
				t.Errorf("%s: the %s's /readyz is %d, want %d with %q:\n%s", what, role, got, status, says, body)
			}
		}
	}
	ready("both answer", http.StatusOK, "database: ok\nredis: ok\n")
	database.Silence()
	check("no database", map[string]float64{"relay_database_up": 0, "relay_redis_up": 1}, fromRedis, fromDatabase)
	ready("no database", http.StatusServiceUnavailable, "database: does not answer\nredis: ok\n")
	redis.Silence()
	check("neither", map[string]float64{"relay_database_up": 0, "relay_redis_up": 0}, nil, both)
	database.Restore()
	check("no Redis", map[string]float64{"relay_database_up": 1, "relay_redis_up": 0}, fromDatabase, fromRedis)
	ready("no Redis", http.StatusOK, "database: ok\nredis: does not answer: degraded")
}

// scraped are a process's metrics: the value of each series, by its name and labels
// as they are shown.
type scraped map[string]float64

// scrape asks a process for its metrics, as Prometheus does.
func scrape(t *testing.T, r *relay) (s scraped, text string) {
	t.Helper()
	status, text := page(t, "http://"+r.metricsAddress(t)+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d\n%s", status, text)
	}
	var err error
	s = scraped{}
	for line := range strings.Lines(text) {
		end := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || end < 0 {
			continue
		}
		if s[line[:end]], err = strconv.ParseFloat(strings.TrimSpace(line[end:]), 64); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	return s, text
}

// page is what is found at the address, by whoever has no key.
func page(t *testing.T, address string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(deadline(t, startLimit), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// metricsAddress is where the process shows its metrics.
func (r *relay) metricsAddress(t *testing.T) string {
	t.Helper()
	line, ok := r.Stderr.Find(`"msg":"metrics and health"`)
	if !ok {
		return r.address
	}
	var up struct{ Listen string }
	if err := json.Unmarshal([]byte(line), &up); err != nil {
		t.Fatal(err)
	}
	return up.Listen
}

// names are the relay's own series, sorted.
func (s scraped) names() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if strings.HasPrefix(name, "relay_") {
			names = append(names, name)
		}
	}
	return names
}

// sum adds up the series of a name.
func (s scraped) sum(name string) (sum float64) {
	for series, value := range s {
		if of, _, _ := strings.Cut(series, "{"); of == name {
			sum += value
		}
	}
	return sum
}

// lacks are those of the wanted series that have another value or are not there.
func (s scraped) lacks(wanted map[string]float64) (missing []string) {
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if value, ok := s[name]; !ok || value != wanted[name] {
			missing = append(missing, fmt.Sprint(name, " ", value))
		}
	}
	return missing
}
