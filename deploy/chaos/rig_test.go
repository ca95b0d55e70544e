package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/storage/seal"
)

const (
	// patience is for what has to happen on a busy machine. It decides nothing but
	// when a test gives up.
	patience = 2 * time.Minute
	// stopLimit is within what a process ends that was asked to.
	stopLimit = 30 * time.Second
	// deliveryTimeout is what a receiver has for its answer.
	deliveryTimeout = 5 * time.Second

	account      = "023e105f4ecef8ad9ca31a8372d0c353"
	credentials  = 4
	destinations = 6
)

// settings are what a rig's relay gets beside its servers: everything is quick,
// budgets are no hindrance, and retries go on for longer than any fault.
func settings() map[string]string {
	return map[string]string{
		"RELAY_LISTEN":             "127.0.0.1:0",
		"RELAY_EGRESS_ALLOW":       "127.0.0.0/8",
		"RELAY_POLL_MIN":           "200ms",
		"RELAY_POLL_MAX":           "1s",
		"RELAY_POLL_BUDGET":        "1000000/5m",
		"RELAY_POLL_EGRESS_BUDGET": "10000/1s",
		"RELAY_RETRY_SCHEDULE":     strings.Repeat("1s,", 200) + "1s",
		"RELAY_DELIVERY_TIMEOUT":   deliveryTimeout.String(),
		"RELAY_LOG_FORMAT":         "json",
		"RELAY_ENCRYPTION_KEYS":    seal.NewKey(),
	}
}

// rig is a relay in several processes, and all that it talks to. The upstream and
// the receivers are in the test's own process, so that the books survive.
type rig struct {
	t        *testing.T
	env      map[string]string
	api      *process
	workers  []*process
	client   *client.ClientWithResponses
	upstream *simulator.Simulator
	receive  *receivers

	credentials  []string
	destinations map[string]string // ids of those that accept, by the path of the receiver
	address      string            // of the receivers: http://host:port
	killed       []killing
	history      *history // nil if nothing is deleted
}

// process is one of the relay's.
type process struct {
	*testenv.Program

	listen string
}

// newRig starts an api and workers on the servers, whose schema it makes, or relay serve on an
// SQLite file, and registers credentials and destinations. Pairs are settings, by name and value.
func newRig(t *testing.T, databaseURL, redisURL string, workers int, pairs ...string) *rig {
	t.Helper()
	upstream, err := simulator.New(simulator.Config{Limit: simulator.Limit{Requests: -1}, KeepRequests: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, env: settings(), upstream: upstream, destinations: map[string]string{},
		receive: &receivers{anyTime: slices.Contains(pairs, clockVariable), receipts: map[[2]string]*receipt{}},
	}
	r.address = serve(t, r.receive)
	maps.Copy(r.env, map[string]string{
		"RELAY_DATABASE_URL": databaseURL, "RELAY_REDIS_URL": redisURL, "RELAY_CLOUDFLARE_URL": serve(t, upstream) + "/client/v4",
	})
	for i := 0; i+1 < len(pairs); i += 2 {
		r.env[pairs[i]] = pairs[i+1]
	}
	r.run("migrate", "up")
	key := strings.TrimSpace(r.run("keys", "create", "--tenant", "chaos", "--name", "chaos", "--scope", "admin"))
	role := "api"
	if strings.HasPrefix(databaseURL, "sqlite:") {
		role = "serve"
	}
	r.api = r.start(role)
	r.env["RELAY_LISTEN"] = r.api.listen // the next api takes its place
	r.connect(key)
	for range workers {
		r.workers = append(r.workers, r.start("worker"))
	}
	for i := range credentials {
		r.credentials = append(r.credentials, r.credential("token-"+strconv.Itoa(i)))
	}
	for i := range destinations {
		path := "/accepts/" + strconv.Itoa(i)
		r.destinations[path] = r.destination(r.address + path)
	}
	return r
}

// connect makes the rig's client one with the key.
func (r *rig) connect(key string) {
	r.t.Helper()
	// A connection for each request: a request never fails for what befell an
	// earlier one.
	once := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	var err error
	r.client, err = client.NewClientWithResponses("http://"+r.api.listen, client.WithAPIKey(key), client.WithHTTPClient(once))
	if err != nil {
		r.t.Fatal(err)
	}
}

// serve is the URL of the handler until the test ends.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// run runs a command of the program to its end and returns what it printed.
func (r *rig) run(args ...string) string {
	r.t.Helper()
	p := r.spawn(args...)
	if code := p.Wait(patience); code != 0 {
		r.t.Fatalf("relay %s: exit code %d\n%s", strings.Join(args, " "), code, p.Stderr)
	}
	return p.Stdout.String()
}

func (r *rig) spawn(args ...string) *testenv.Program {
	r.t.Helper()
	path, err := relayProgram()
	if err != nil {
		r.t.Fatal(err)
	}
	return testenv.StartProgram(r.t, path, r.t.TempDir(), r.env, args...)
}

// start starts a role of the program and returns when it is up.
func (r *rig) start(role string) *process {
	r.t.Helper()
	p := &process{Program: r.spawn(role)}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	line, ok := p.Stderr.Wait(ctx, `"msg":"relay is up"`, p.Ended)
	var up struct{ Listen string }
	if !ok || json.Unmarshal([]byte(line), &up) != nil {
		r.t.Fatalf("relay %s did not come up:\n%s", role, p.Stderr)
	}
	p.listen = up.Listen
	return p
}

func (r *rig) credential(token string) string {
	r.t.Helper()
	made, err := r.client.CreateCredentialWithResponse(r.t.Context(), nil, client.NewCredential{Name: token, APIToken: &token})
	if err != nil {
		r.t.Fatal(err)
	}
	if made.JSON201 == nil {
		r.t.Fatalf("create a credential: %s", made.Body)
	}
	return made.JSON201.ID
}

func (r *rig) destination(url string) string {
	r.t.Helper()
	made, err := r.client.CreateDestinationWithResponse(r.t.Context(), nil,
		client.NewDestination{Type: client.DestinationWebhook, Name: "chaos", URL: &url, Secret: new(secret)})
	if err != nil {
		r.t.Fatal(err)
	}
	if made.JSON201 == nil {
		r.t.Fatalf("create a destination: %s", made.Body)
	}
	return made.JSON201.ID
}

// processes are those that run, or did last.
func (r *rig) processes() []*process { return append([]*process{r.api}, r.workers...) }

// memory is the most that one of the relay's processes has taken so far, in MiB.
func (r *rig) memory() (peak int) {
	for _, p := range r.processes() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
		if err != nil { // it was killed; what took its place counts
			continue
		}
		for line := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kib, _ := strconv.Atoi(strings.Fields(value)[0])
				peak = max(peak, kib>>10)
			}
		}
	}
	return peak
}
