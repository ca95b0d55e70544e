package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"
	oteltrace "go.opentelemetry.io/otel/trace"

	"oprelay/api"
	"oprelay/api/console"
	"oprelay/api/ratelimit"
	"oprelay/jobs"
	"oprelay/jobs/deliver"
	"oprelay/jobs/loglimit"
	"oprelay/jobs/poll"
	"oprelay/jobs/source"
	"oprelay/jobs/wake"
	"oprelay/notifier"
	"oprelay/notifier/egress"
	"oprelay/storage"
)

// process is a running relay. Two of them can run in one program.
type process struct {
	cfg     config
	log     *slog.Logger
	store   *storage.Store
	redis   redis.UniversalClient
	waker   *wake.Waker
	metrics *prometheus.Registry
	tracer  oteltrace.Tracer // nil for no traces
	// addr is where the API listens, "" without one.
	addr string
	// broken tells of a listener that failed.
	broken chan error
	// stops are undone in reverse order.
	stops []func(context.Context) error
}

// start brings up the roles. What it has begun is undone if it fails.
func start(ctx context.Context, cfg config, r roles, log *slog.Logger, stderr io.Writer) (*process, error) {
	p := &process{cfg: cfg, log: log, metrics: prometheus.NewRegistry(), broken: make(chan error, 3)}
	p.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	warnOfFewFiles(maxFiles(), log)
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return p.startTracing(ctx, r) },
		p.claimFile,
		p.openStore,
		func(ctx context.Context) error { return p.firstKey(ctx, stderr) },
		p.openRedis,
		func(context.Context) error { return p.startWaker(r) },
		func(context.Context) error { return p.startWorker(r) },
		func(ctx context.Context) error { return p.startAPI(ctx, r) },
		func(ctx context.Context) error { return p.startMetrics(ctx) },
		p.startDebug,
	} {
		if err := step(ctx); err != nil {
			stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopMargin)
			defer cancel()
			return nil, errors.Join(err, p.stop(stopCtx))
		}
	}
	// To start takes more memory than an idle relay needs: without this, the collector would let
	// garbage grow to twice of that before it looks.
	debug.FreeOSMemory()
	log.Info("relay is up", "version", version, "api", r.api, "worker", r.worker, "listen", p.addr,
		"database", p.store.Backend(), "redis_embedded", cfg.redisURL == embeddedRedis)
	return p, nil
}

// stop undoes start, last thing first.
func (p *process) stop(ctx context.Context) error {
	var errs []error
	for _, undo := range slices.Backward(p.stops) {
		errs = append(errs, undo(ctx))
	}
	p.stops = nil
	return errors.Join(errs...)
}

func (p *process) onStop(undo func(context.Context) error) { p.stops = append(p.stops, undo) }

// claimFile makes this process the only relay on a SQLite database, until it ends
// in whatever way. The lock is beside the file that all links lead to: on the file itself it
// would meet SQLite's own locks on some systems. A second name by a hard link is refused by storage.
func (p *process) claimFile(context.Context) error {
	path, ok := strings.CutPrefix(p.cfg.databaseURL, "sqlite:")
	if !ok {
		return nil
	}
	file, err := storage.SQLiteFile(path)
	if err != nil {
		return fmt.Errorf("claim the database: %w", err)
	}
	lock := flock.New(file + ".lock")
	switch claimed, err := lock.TryLock(); {
	case err != nil:
		return fmt.Errorf("claim the database: %w", err)
	case !claimed:
		return fmt.Errorf("another relay serve uses %s: stop it first, or give this one a database of its own", path)
	}
	p.onStop(func(context.Context) error { return lock.Unlock() })
	return nil
}

func (p *process) openStore(ctx context.Context) (err error) {
	if p.store, err = openMigrated(ctx, p.cfg, p.log); err != nil {
		return err
	}
	p.onStop(func(context.Context) error { return p.store.Close() })
	ended := loglimit.NewEnded(p.log)
	p.store.SetOnEnded(ended.Ended)
	p.onStop(func(context.Context) error { ended.Flush(); return nil })
	if err := p.store.CheckKeys(ctx); err != nil {
		return err
	}
	if err := p.store.JoinClock(ctx); err != nil {
		return err
	}
	p.keepClock()
	if p.store.Backend() == "sqlite" {
		return p.store.Reclaim(ctx) // what a process before this one left behind
	}
	return nil
}

// keepClock goes on until the store is about to be closed.
func (p *process) keepClock() {
	ctx, cancel := context.WithCancel(context.Background())
	kept := make(chan struct{})
	go func() { p.store.KeepClock(ctx); close(kept) }()
	p.onStop(func(context.Context) error { cancel(); <-kept; return nil })
}

// firstKey makes the first way in to a new SQLite database.
func (p *process) firstKey(ctx context.Context, stderr io.Writer) error {
	if p.store.Backend() != "sqlite" {
		return nil
	}
	if has, err := p.store.HasKeys(ctx); err != nil || has {
		return err
	}
	tenant, secret, err := createKey(ctx, p.store, defaultTenant, "first admin key", storage.ScopeAdmin)
	if err != nil {
		return err
	}
	return printFirstKey(ctx, p.cfg, stderr, tenant.Name, string(secret))
}

func (p *process) openRedis(context.Context) error {
	url := p.cfg.redisURL
	if url == embeddedRedis {
		embedded, err := wake.StartEmbedded()
		if err != nil {
			return err
		}
		p.onStop(func(context.Context) error { embedded.Close(); return nil })
		url = embedded.URL()
	}
	client, err := wake.Open(url)
	if err != nil {
		return err
	}
	p.redis = client
	p.onStop(func(context.Context) error { return client.Close() })
	return nil
}

func (p *process) startWaker(r roles) error {
	p.waker = jobs.StartWaker(p.redis, p.log, p.store.Steady)
	p.onStop(func(context.Context) error { p.waker.Stop(); return nil })
	if !r.worker {
		p.store.SetOnDue(jobs.WakeBy(p.waker))
	}
	return nil
}

func (p *process) startWorker(r roles) error {
	if !r.worker {
		return nil
	}
	cfg := p.cfg
	if p.grace() > usualStop {
		p.log.Info("a stop may take longer than usual, as RELAY_DELIVERY_TIMEOUT may: have whatever stops the relay wait for it",
			"stop_timeout", p.grace())
	}
	share := shareOf(maxFiles())
	var messages *notifier.Client
	var polls *source.Client
	outOfFiles := freeing(func() { messages.Close() }, func() { polls.Close() })
	messages = notifier.New(notifier.Config{
		Version: version, Egress: egress.Policy{Allow: cfg.egressAllow}, SlackURL: cfg.slackURL, Timeout: cfg.deliveryTimeout,
		MaxIdle: share, OutOfFiles: outOfFiles, Now: wallClock(),
	})
	polls = source.NewClient(source.Config{Version: version, MaxIdle: share, OutOfFiles: outOfFiles, Now: wallClock()})
	worker, err := jobs.StartWorker(jobs.Config{
		Store: p.store, Waker: p.waker, Alone: cfg.redisURL == embeddedRedis, Retention: cfg.retention,
		Logger: p.log, Metrics: p.metrics,
		Poller: poll.New(poll.Config{
			Store: p.store, Client: polls, Sources: cfg.sources, Budget: cfg.pollBudget, Egress: cfg.egressBudget,
			Policy: poll.Policy{Intervals: cfg.pollIntervals(), UnobservableAfter: cfg.unobservableAfter},
			Logger: p.log, Metrics: p.metrics, Tracer: p.tracer,
		}),
		Deliverer: deliver.New(deliver.Config{
			Store: p.store, Notifier: messages, Retry: cfg.retrySchedule, Timeout: cfg.deliveryTimeout,
			DisableAfter: cfg.disableAfter, MaxInFlight: share, ConsoleURL: cfg.consoleURL,
			Logger: p.log, Metrics: p.metrics, Tracer: p.tracer,
		}),
	})
	if err != nil {
		return err
	}
	p.store.SetOnDue(worker.Wake)
	p.onStop(func(ctx context.Context) error {
		defer messages.Close()
		return worker.Stop(ctx)
	})
	return nil
}

func (p *process) startAPI(ctx context.Context, r roles) error {
	if !r.api {
		p.followChanges(nil)
		return nil
	}
	config := api.Config{
		Store: p.store, Logger: p.log, Egress: egress.Policy{Allow: p.cfg.egressAllow},
		Ready:   map[string]func(context.Context) error{"redis": p.redisReady},
		Metrics: p.metrics, Tracer: p.tracer,
		Sources: sources{p.cfg.sources}, Budgets: p.cfg.budgets(), Intervals: p.cfg.pollIntervals(),
		Limits: api.Limits{
			Counter: ratelimit.New(p.sharedRedis(), p.log, wallClock()),
			Key:     p.cfg.apiRateLimit, WrongKeys: p.cfg.authFailureLimit, TrustedProxies: p.cfg.trustedProxies,
		},
	}
	if p.cfg.metricsListen == "" {
		config.Gatherer = p.metrics
	}
	server, err := api.New(config)
	if err != nil {
		return err
	}
	site, err := console.New(console.Config{API: server, Store: p.store, Logger: p.log, URL: p.cfg.consoleURL, Now: wallClock()})
	if err != nil {
		return err
	}
	server.Mount(site)
	p.followChanges(server)
	p.addr, err = p.listen(ctx, p.cfg.listen, server, server.Drain)
	return err
}

// sharedRedis is where processes count together. On the embedded one there is
// but this process, which counts by itself in a hundredth of the time.
func (p *process) sharedRedis() redis.UniversalClient {
	if p.cfg.redisURL == embeddedRedis {
		return nil
	}
	return p.redis
}

func (p *process) redisReady(context.Context) error {
	if !p.waker.Up() {
		return errors.New("Redis does not answer") //nolint:staticcheck // a name
	}
	return nil
}

// listen serves handler until the process stops: then drain is called, and
// requests under way may finish.
func (p *process) listen(ctx context.Context, address string, handler http.Handler, drain func()) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		// Longer than the longest wait for the end of a watch.
		WriteTimeout:   2 * time.Minute,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	server.RegisterOnShutdown(drain)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			p.broken <- listenerFailed(address, err)
		}
	}()
	p.onStop(func(ctx context.Context) error {
		if err := server.Shutdown(ctx); err != nil {
			return errors.Join(err, server.Close())
		}
		return nil
	})
	return listener.Addr().String(), nil
}
