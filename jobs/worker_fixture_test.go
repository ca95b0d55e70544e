package jobs

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/jobs/deliver"
	"oprelay/jobs/poll"
	"oprelay/jobs/source"
	"oprelay/jobs/wake"
	"oprelay/notifier"
	"oprelay/notifier/egress"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// TestMain has more tests run at a time than there are processors: they mostly wait.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const account = "023e105f4ecef8ad9ca31a8372d0c353"

// backend is what a relay stands on.
type backend struct {
	name     string
	database func(*testing.T) string
	redis    func(*testing.T) string
	moveMost int // see storage.Config; 0 for so few that holding or canceling what waits takes several runs
}

func sqliteBackend() backend {
	return backend{name: "sqlite, embedded redis", redis: embedded, database: func(t *testing.T) string {
		t.Helper()
		return "sqlite:" + filepath.Join(t.TempDir(), "relay.db")
	}}
}

func postgresBackend() backend {
	return backend{
		name:     "postgres, redis",
		database: func(t *testing.T) string { t.Helper(); return testenv.Postgres(t) },
		redis:    func(t *testing.T) string { t.Helper(); return testenv.Redis(t) },
	}
}

// backends are what every test of a worker runs on.
func backends() []backend { return []backend{sqliteBackend(), postgresBackend()} }

// relay is the parts of a relay, without workers, between stand-ins for the
// upstream and for Slack.
type relay struct {
	t        *testing.T
	store    *storage.Store
	tenant   string
	redisURL string
	upstream *simulator.Simulator
	slack    *slacktest.Server
	log      *slog.Logger
	lines    *lines
	poll     poll.Config // of the workers that are started from now on
	deliver  deliver.Config
	config   Config
	hook     redis.Hook   // of their Redis clients; nil for none
	step     atomic.Int64 // how far the wall clock is set from the right time
	skipped  atomic.Int64 // what has gone by without anybody waiting for it

	mu    sync.Mutex
	wakes []func([]storage.Group) // of the workers
}

// newRelay makes a relay that is in a hurry. The simulator knows every operation:
// it completes at once, unless it is added with another plan.
func newRelay(t *testing.T, b backend) *relay {
	t.Helper()
	keys, err := seal.ParseKeyring(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r := &relay{t: t, redisURL: b.redis(t), slack: slacktest.New(slacktest.Options{})}
	r.store, err = storage.Open(t.Context(), storage.Config{
		URL: b.database(t), Keys: keys, OnDue: r.due, Now: r.wall,
		Elapsed:  func() time.Duration { return time.Since(began) + time.Duration(r.skipped.Load()) },
		MoveMost: cmp.Or(b.moveMost, 3),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.store.Close() })
	if _, err := r.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	tenant, err := r.store.EnsureTenant(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	r.tenant = tenant.ID
	r.upstream, err = simulator.New(simulator.Config{Default: &simulator.Plan{}, Limit: simulator.Limit{Requests: -1}})
	if err != nil {
		t.Fatal(err)
	}
	r.log, r.lines = newLog()
	r.hurry()
	r.notifyWith(func(*notifier.Config) {})
	return r
}

// notifyWith has the workers that are started from now on send so.
func (r *relay) notifyWith(edit func(*notifier.Config)) {
	r.t.Helper()
	config := notifier.Config{
		Egress:   egress.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		SlackURL: serve(r.t, r.slack) + slacktest.APIPath,
	}
	edit(&config)
	sender := notifier.New(config)
	r.t.Cleanup(sender.Close)
	r.deliver.Notifier = sender
}

// wall is the time as the relay's clock is set.
func (r *relay) wall() time.Time { return time.Now().Round(0).Add(time.Duration(r.step.Load())) }

// due tells every worker, as if each had committed.
func (r *relay) due(groups []storage.Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, wake := range r.wakes {
		wake(groups)
	}
}

// anyID is Cloudflare's definition at a base, for operations whose ids are words.
func anyID(t *testing.T, base string) *source.Set {
	t.Helper()
	builtin, err := source.Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := builtin.YAML("cloudflare.lists")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cloudflare.yaml")
	text = bytes.ReplaceAll(text, []byte("[0-9a-f]{32}"), []byte("[A-Za-z0-9_ -]+"))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	sources, err := source.Load([]string{file}, map[string]string{"cloudflare": base})
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

// hurry has the workers that are started from now on be in a hurry.
func (r *relay) hurry() {
	sources := anyID(r.t, serve(r.t, r.upstream))
	client := source.NewClient(source.Config{})
	r.t.Cleanup(client.Close)
	r.poll = poll.Config{
		Store: r.store, Client: client, Sources: sources, Logger: r.log,
		Policy: poll.Policy{
			Intervals:         storage.Intervals{Lag: 0.1, Min: 20 * time.Millisecond, Max: 100 * time.Millisecond},
			UnobservableAfter: 300 * time.Millisecond,
		},
		Budget: storage.Budget{N: 10_000, Per: time.Minute},
		Egress: storage.Budget{N: 1000, Per: time.Second},
	}
	r.deliver = deliver.Config{
		Store: r.store, Logger: r.log, ConsoleURL: "https://console.example",
		Retry:   deliver.RetrySchedule{50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond},
		Timeout: 5 * time.Second, DisableAfter: time.Hour,
	}
	r.config = Config{Store: r.store, Logger: r.log}
}

func embedded(t *testing.T) string {
	t.Helper()
	e, err := wake.StartEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e.URL()
}

func openRedis(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	client, err := wake.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

// start starts a worker with its own Redis client, as a process has.
func (r *relay) start() *Worker {
	r.t.Helper()
	config := r.config
	config.Poller, config.Deliverer = poll.New(r.poll), deliver.New(r.deliver)
	client := openRedis(r.t, r.redisURL)
	if r.hook != nil {
		client.AddHook(r.hook)
	}
	config.Waker = StartWaker(client, r.log, time.Now)
	w, err := StartWorker(config)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.wakes = append(r.wakes, w.Wake)
	r.mu.Unlock()
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.Stop(ctx) // a hanging receiver is cut off
		config.Waker.Stop()
	})
	return w
}

func (r *relay) credential(token string) string {
	r.t.Helper()
	c, err := r.store.CreateCredential(r.t.Context(), storage.NewCredential{
		TenantID: r.tenant, Upstream: "cloudflare", Name: token, Secret: storage.CredentialSecret{APIToken: seal.Secret(token)},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return c.ID
}

// receiver is a webhook destination with its receiver.
type receiver struct {
	*webhooktest.Receiver

	id string
}

// webhook makes one. edit, if not nil, changes what it is made from.
func (r *relay) webhook(edit func(*storage.NewDestination)) receiver {
	r.t.Helper()
	secret := notifier.NewSecret()
	stand := webhooktest.New(secret)
	n := storage.NewDestination{
		TenantID: r.tenant, Kind: storage.KindWebhook, Name: "receiver", URL: serve(r.t, stand), MaxInFlight: 20,
		Secret: storage.DestinationSecret{Signing: []storage.SigningSecret{{Value: seal.Secret(secret)}}},
	}
	if edit != nil {
		edit(&n)
	}
	return receiver{stand, r.create(n)}
}

func (r *relay) create(n storage.NewDestination) string {
	r.t.Helper()
	d, err := r.store.CreateDestination(r.t.Context(), n)
	if err != nil {
		r.t.Fatal(err)
	}
	return d.ID
}

// channel makes a destination that posts as a Slack bot.
func (r *relay) channel(name string) string {
	r.t.Helper()
	return r.create(storage.NewDestination{
		TenantID: r.tenant, Kind: storage.KindSlack, Name: name, Channel: name, MaxInFlight: 1,
		Secret: storage.DestinationSecret{BotToken: "xoxb-test"},
	})
}

// watch asks for watches of the operations.
func (r *relay) watch(credential string, operations []string, destinations ...string) []storage.Watch {
	r.t.Helper()
	return r.watchFor(time.Hour, credential, operations, destinations...)
}

func (r *relay) watchFor(timeout time.Duration, credential string, operations []string, destinations ...string) []storage.Watch {
	r.t.Helper()
	wanted := make([]storage.NewWatch, len(operations))
	for i, id := range operations {
		wanted[i] = storage.NewWatch{
			TenantID: r.tenant, Source: "cloudflare.lists", Upstream: "cloudflare", Params: map[string]string{"account_id": account}, OperationID: id, CredentialID: credential, DestinationIDs: destinations,
			Events: []string{
				storage.EventOperationCompleted, storage.EventOperationFailed,
				storage.EventOperationExpired, storage.EventOperationUnobservable,
			},
			Timeout: timeout,
		}
	}
	watches, err := r.store.CreateWatches(r.t.Context(), wanted)
	if err != nil {
		r.t.Fatal(err)
	}
	return watches
}

func (r *relay) add(operation string, plan simulator.Plan) {
	r.t.Helper()
	if err := r.upstream.Add(account, operation, plan); err != nil {
		r.t.Fatal(err)
	}
}

// ended waits until the watch has ended, and returns it.
func (r *relay) ended(w storage.Watch) storage.Watch {
	r.t.Helper()
	eventually(r.t, func() bool {
		got, err := r.store.Watch(r.t.Context(), r.tenant, w.ID)
		if err != nil {
			r.t.Fatal(err)
		}
		w = got
		return w.Status != storage.WatchWatching
	}, nil, "the end of a watch")
	return w
}

// deliveries are those at the destination, in the order of their making.
func (r *relay) deliveries(destination string) []storage.Delivery {
	r.t.Helper()
	var all []storage.Delivery
	for after := ""; ; {
		page, err := r.store.Deliveries(r.t.Context(), storage.DeliveryFilter{TenantID: r.tenant, DestinationID: destination},
			storage.Page{Limit: 200, After: after})
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, page.Data...)
		if after = page.Next; after == "" {
			slices.Reverse(all)
			return all
		}
	}
}

// settled waits until every delivery at the destination has the status.
func (r *relay) settled(n int, destination, status string) []storage.Delivery {
	r.t.Helper()
	var all []storage.Delivery
	eventually(r.t, func() bool {
		all = r.deliveries(destination)
		return len(all) == n && !slices.ContainsFunc(all, func(d storage.Delivery) bool { return d.Status != status })
	}, nil, "%d deliveries that are %s", n, status)
	return all
}

// settledOne waits until the watch's one delivery has succeeded.
func (r *relay) settledOne(watch string) storage.Delivery {
	r.t.Helper()
	var found storage.Delivery
	eventually(r.t, func() bool {
		page, err := r.store.Deliveries(r.t.Context(), storage.DeliveryFilter{TenantID: r.tenant, WatchID: watch}, storage.Page{Limit: 2})
		if err != nil {
			r.t.Fatal(err)
		}
		if len(page.Data) == 1 {
			found = page.Data[0]
		}
		return found.Status == storage.DeliverySucceeded
	}, nil, "the delivery of a watch's event")
	return found
}

func (r *relay) destination(id string) storage.Destination {
	r.t.Helper()
	d, err := r.store.Destination(r.t.Context(), r.tenant, id)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r *relay) attempts(delivery string) []storage.Attempt {
	r.t.Helper()
	_, attempts, err := r.store.Delivery(r.t.Context(), r.tenant, delivery)
	if err != nil {
		r.t.Fatal(err)
	}
	return attempts
}

// await waits for arrivals, of which every one must verify.
func (r *relay) await(to receiver, n int) []webhooktest.Arrival {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	arrivals, err := to.Wait(ctx, webhooktest.Count(n))
	if err != nil {
		r.t.Fatalf("%d of %d arrived: %v", len(arrivals), n, err)
	}
	for _, a := range arrivals {
		if a.Err != nil {
			r.t.Errorf("%s does not verify: %v", a.ID, a.Err)
		}
	}
	return arrivals
}

// events are the ids that arrived and were accepted, each once.
func events(arrivals []webhooktest.Arrival) map[string]bool {
	ids := map[string]bool{}
	for _, a := range arrivals {
		if a.Status == http.StatusNoContent {
			ids[a.ID] = true
		}
	}
	return ids
}

func operations(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%04d", prefix, i)
	}
	return ids
}
