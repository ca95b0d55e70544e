package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
)

var errNotReady = errors.New("the relay is up and not ready")

// relayUp is what the relay logs, in lower case, once it serves.
const relayUp = `"msg":"relay is up"`

// shape is which relay a row measures.
type shape struct {
	embedded bool // `relay serve` on SQLite and the embedded Redis; else api and workers
	workers  int
	settings map[string]string // beside what all rows have
}

// lifted are settings under which no budget holds the relay back.
func lifted() map[string]string {
	return map[string]string{
		"RELAY_POLL_BUDGET":        "1000000000/5m",
		"RELAY_POLL_EGRESS_BUDGET": "10000000/1s",
		"RELAY_API_RATE_LIMIT":     "10000000/1s",
	}
}

// with is the settings with others, name and value by turns.
func with(settings map[string]string, pairs ...string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, settings)
	for i := 0; i+1 < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	return all
}

// relay is one that runs, on a database of its own.
type relay struct {
	b      *bench
	shape  shape
	env    map[string]string
	api    *testenv.Standalone
	worker []*testenv.Standalone // none if api does their work
	key    string
	client *client.ClientWithResponses

	firstUp     time.Duration // how long an embedded one took to make its database and be up
	logs        []*os.File
	peak        map[string]float64 // memory in MiB of the biggest process of a role, of those that were killed too
	credentials []string
	folder      string
	drop        func(context.Context) error
}

// newRelay starts a relay with so many credentials on cleared servers. Whoever
// calls it closes it.
func (b *bench) newRelay(ctx context.Context, s shape, credentials int) (r *relay, err error) {
	if err := b.clear(ctx); err != nil {
		return nil, err
	}
	r = &relay{b: b, shape: s, peak: map[string]float64{}, drop: func(context.Context) error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close(ctx))
		}
	}()
	if r.folder, err = os.MkdirTemp("", "oprelay-bench-"); err != nil {
		return r, err
	}
	for _, role := range []string{"serve", "api", "worker*"} {
		old, err := filepath.Glob(filepath.Join(b.folder, role+".log"))
		for _, path := range old {
			err = errors.Join(err, os.Remove(path))
		}
		if err != nil {
			return r, err
		}
	}
	r.env = with(s.settings,
		"PATH", os.Getenv("PATH"),
		"RELAY_CLOUDFLARE_URL", b.upstream.URL+"/client/v4",
		"RELAY_EGRESS_ALLOW", "127.0.0.0/8",
		"RELAY_LOG_FORMAT", "json",
		"RELAY_ENCRYPTION_KEYS", seal.NewKey(),
	)
	if err := r.start(ctx); err != nil {
		return r, err
	}
	if err := r.connect(); err != nil {
		return r, err
	}
	for i := range credentials {
		if err := r.addCredential(ctx, "token-"+strconv.Itoa(i)); err != nil {
			return r, err
		}
	}
	return r, nil
}

// connect makes the client one of the API as it runs now.
func (r *relay) connect() (err error) {
	httpClient := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	r.client, err = client.NewClientWithResponses(r.api.URL, client.WithAPIKey(r.key), client.WithHTTPClient(httpClient))
	return err
}

// role is that of the process that has the API.
func (r *relay) role() string {
	if r.shape.embedded {
		return "serve"
	}
	return "api"
}

// start makes the database and starts the processes.
func (r *relay) start(ctx context.Context) (err error) {
	if r.shape.embedded {
		r.env["RELAY_DATABASE_URL"], r.env["RELAY_REDIS_URL"] = "sqlite:"+filepath.Join(r.folder, "relay.db"), "embedded"
		begun := time.Now()
		if err := r.startProcesses(); err != nil {
			return err
		}
		r.firstUp = time.Since(begun)
		r.key, err = r.run(ctx, "keys", "create", "--tenant", "default", "--name", "bench", "--scope", "admin")
		return err
	}
	if r.env["RELAY_DATABASE_URL"], r.drop, err = r.b.newDatabase(ctx); err != nil {
		return err
	}
	r.env["RELAY_REDIS_URL"] = r.b.redis.URL
	if _, err = r.run(ctx, "migrate", "up"); err != nil {
		return err
	}
	if r.key, err = r.run(ctx, "keys", "create", "--tenant", "default", "--name", "bench", "--scope", "admin"); err != nil {
		return err
	}
	return r.startProcesses()
}

// run runs a command of the relay to its end and returns what it printed.
func (r *relay) run(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, r.b.relayProgram, args...)
	command.Env = environment(r.env)
	var stderr strings.Builder
	command.Stderr = &stderr
	printed, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("relay %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(printed)), nil
}

// close kills the processes and removes what they kept.
func (r *relay) close(ctx context.Context) error {
	var faults []error
	for _, p := range r.processes() {
		faults = append(faults, p.Close())
	}
	for _, log := range r.logs {
		faults = append(faults, log.Close())
	}
	r.api, r.worker, r.logs = nil, nil, nil
	return errors.Join(append(faults, r.drop(context.WithoutCancel(ctx)), os.RemoveAll(r.folder))...)
}

func (r *relay) addCredential(ctx context.Context, token string) error {
	made, err := r.client.CreateCredentialWithResponse(ctx, nil, client.NewCredential{Name: token, APIToken: &token})
	if err != nil {
		return err
	}
	if made.JSON201 == nil {
		return fmt.Errorf("create a credential: %s", made.Body)
	}
	r.credentials = append(r.credentials, made.JSON201.ID)
	return nil
}

// destination makes one whose messages go to the receiver's path.
func (r *relay) destination(ctx context.Context, path string) (id string, err error) {
	made, err := r.client.CreateDestinationWithResponse(ctx, nil, client.NewDestination{
		Type: client.DestinationWebhook, Name: "bench", URL: new(r.b.receiver.URL + path), Secret: new(r.b.secret),
	})
	if err != nil {
		return "", err
	}
	if made.JSON201 == nil {
		return "", fmt.Errorf("create a destination: %s", made.Body)
	}
	return made.JSON201.ID, nil
}

// databaseURL is that of another database of the server.
func databaseURL(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server // the server's own was made by testenv
	}
	u.Path = "/" + name
	return u.String()
}

// awaitDelivered returns when no delivery is pending any more.
func (r *relay) awaitDelivered(ctx context.Context) error {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		pending, err := r.client.ListDeliveriesWithResponse(ctx, &client.ListDeliveriesParams{
			Status: new(client.DeliveryPending), Limit: new(1),
		})
		switch {
		case err != nil:
			return err
		case pending.JSON200 == nil:
			return fmt.Errorf("list deliveries: %s", pending.Body)
		case len(pending.JSON200.Data) == 0:
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sorted are the durations from the shortest to the longest.
func sorted(all []time.Duration) []time.Duration { slices.Sort(all); return all }

// startProcesses starts the API, or all in one, and the workers.
func (r *relay) startProcesses() (err error) {
	if r.api, err = r.spawn(r.role(), r.role()); err != nil {
		return err
	}
	return r.startWorkers()
}

func (r *relay) startWorkers() error {
	for i := range r.shape.workers {
		w, err := r.spawn("worker", fmt.Sprintf("worker%d", i+1))
		if err != nil {
			return err
		}
		r.worker = append(r.worker, w)
	}
	return nil
}

// kill ends processes of the relay, and keeps in mind how big they were.
func (r *relay) kill(processes ...*testenv.Standalone) error {
	_, err := r.peaks()
	for _, p := range processes {
		err = errors.Join(err, p.Close())
	}
	return err
}

// spawn starts a role of the relay and returns when it is up. What it logs is in
// the bench's folder, after what those before it logged there.
func (r *relay) spawn(role, name string) (*testenv.Standalone, error) {
	log, err := os.OpenFile(filepath.Join(r.b.folder, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	r.logs = append(r.logs, log)
	return testenv.StartService(testenv.Service{
		Args: func(string) []string { return []string{r.b.relayProgram, role} },
		Env: func(port string) []string {
			listen := "RELAY_LISTEN"
			if role == "worker" {
				listen = "RELAY_METRICS_LISTEN"
			}
			return environment(with(r.env, listen, "127.0.0.1:"+port))
		},
		Ready: relayUp,
		Log:   log,
	})
}

func environment(env map[string]string) []string {
	var pairs []string
	for name, value := range env {
		pairs = append(pairs, name+"="+value)
	}
	return pairs
}

// processes are the relay's.
func (r *relay) processes() []*testenv.Standalone {
	if r.api == nil {
		return nil
	}
	return append([]*testenv.Standalone{r.api}, r.worker...)
}

// usage is what each group of processes has used so far.
func (r *relay) usage() (cpu, error) {
	used := cpu{}
	var faults []error
	take := func(group string, family bool, servers ...*testenv.Standalone) {
		for _, s := range servers {
			d, err := processCPU(s.PID(), family)
			used[group] += d
			faults = append(faults, err)
		}
	}
	take(r.role(), false, r.api)
	take("worker", false, r.worker...)
	take("upstream", false, r.b.upstream.Standalone)
	take("receiver", false, r.b.receiver.Standalone)
	load, err := processCPU(os.Getpid(), false)
	used["load"] = load
	faults = append(faults, err)
	if !r.shape.embedded {
		take("PostgreSQL", true, r.b.postgres)
		take("Redis", false, r.b.redis)
	}
	return used, errors.Join(faults...)
}

// peaks is the most memory, in MiB, that the biggest process of each role has had.
func (r *relay) peaks() (map[string]float64, error) {
	for i, p := range r.processes() {
		mib, err := peakMiB(p.PID())
		if err != nil {
			return nil, err
		}
		role := r.role()
		if i > 0 {
			role = "worker"
		}
		r.peak[role] = max(r.peak[role], mib)
	}
	return maps.Clone(r.peak), nil
}
