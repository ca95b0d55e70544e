// Package deliver sends the messages that are due to destinations, within each one's limits.
package deliver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"oprelay/jobs/loglimit"
	"oprelay/jobs/pipeline"
	"oprelay/notifier"
	"oprelay/storage"
)

const (
	// destinationTTL is how long a run goes by a destination's settings before it
	// reads them again.
	destinationTTL = time.Second
	// failingPause is how long a failing destination is left alone if too many others are
	// being tried.
	failingPause = 10 * time.Second
	// DefaultMaxInFlight is how many attempts a process has under way before no
	// destination may have more than a few of them: see [pipeline.InFlight].
	DefaultMaxInFlight = 1024
)

// Notifier sends one message once and reports what came of it. What went wrong
// is a *notifier.Error.
type Notifier interface {
	SendWebhook(ctx context.Context, w notifier.Webhook, m notifier.Message) (notifier.Outcome, error)
	SendSlackWebhook(ctx context.Context, url string, m notifier.Message) (notifier.Outcome, error)
	SendSlackBot(ctx context.Context, token, channel string, previous notifier.SlackRef, m notifier.Message) (notifier.Outcome, error)
}

// Config is what a deliverer is made of.
type Config struct {
	Store        *storage.Store
	Notifier     Notifier
	Retry        RetrySchedule
	Timeout      time.Duration // of one attempt, the answer's body included
	DisableAfter time.Duration // of nothing but failures
	MaxInFlight  int           // 0 is the default
	ConsoleURL   string        // where links in Slack messages point; "" makes none
	Logger       *slog.Logger
	Metrics      prometheus.Registerer // nil for none
	Tracer       trace.Tracer          // nil for none

	GatherFor    time.Duration // 0 is the default; for tests
	FailingPause time.Duration // 0 is the default; for tests
	OwnPause     time.Duration // 0 is the default; for tests
}

// Deliverer works through destinations.
type Deliverer struct {
	store        *storage.Store
	notifier     Notifier
	schedule     RetrySchedule
	timeout      time.Duration
	disableAfter time.Duration
	failingPause time.Duration
	gatherFor    time.Duration
	links        links
	now          func() time.Time
	log          *slog.Logger
	failureLog   *loglimit.Limit // attempts that were not accepted
	metrics      *metrics
	tracer       trace.Tracer
	inFlight     pipeline.InFlight
	unrecorded   *unrecorded
	own          *ownTroubles
}

// New makes a deliverer.
func New(cfg Config) *Deliverer {
	return &Deliverer{
		store: cfg.Store, notifier: cfg.Notifier, schedule: cfg.Retry, timeout: cfg.Timeout,
		disableAfter: cfg.DisableAfter, failingPause: cmp.Or(cfg.FailingPause, failingPause), gatherFor: cmp.Or(cfg.GatherFor, gatherFor),
		links: links(cfg.ConsoleURL), now: cfg.Store.Steady, log: cfg.Logger,
		failureLog: loglimit.New(cfg.Logger, slog.LevelWarn, "more attempts were not accepted", "by_status_code"),
		metrics:    newMetrics(cfg.Metrics), tracer: cfg.Tracer,
		inFlight: pipeline.InFlight{Max: cmp.Or(cfg.MaxInFlight, DefaultMaxInFlight)}, unrecorded: newUnrecorded(unrecordedMost, answersSoon),
		own: &ownTroubles{
			log: cfg.Logger, now: cfg.Store.Steady, all: map[string]*ownTrouble{},
			least: cmp.Or(cfg.OwnPause, ownPauseLeast), most: cmp.Or(cfg.OwnPause, ownPauseMost),
		},
	}
}

// FlushLog tells now of the failures that were left out so far.
func (d *Deliverer) FlushLog() { d.failureLog.Flush() }

// Run sends what is due to the leased destination until stop ends; what is under way goes
// on until work does. It returns until when nothing more may be sent. failing is asked
// whether there is room for a destination that was failing when it was last tried.
func (d *Deliverer) Run(stop, work context.Context, lease pipeline.Lease, failing func() bool) (notBefore time.Time, err error) {
	r := &run{Deliverer: d, Lease: lease, stop: stop, turns: rate.NewLimiter(rate.Inf, 1)}
	if err = r.reopen(work); err == nil {
		r.begin()
		// One failure happens to the best: it must not queue behind those that go on failing.
		if r.wasFailing = r.failures > 1; r.wasFailing && !failing() {
			return r.now().Add(d.failingPause), nil
		}
		line := pipeline.Pipeline[send, attempted]{
			Work: r, Unavailable: storage.Unavailable, Ahead: pipeline.Ahead, Fresh: destinationTTL, InFlight: &d.inFlight,
			Unrecorded: unrecordedMost - 4, // one whose row somebody has locked leaves places to others
		}
		notBefore, err = line.Run(stop, work, lease)
		notBefore = latest(notBefore, r.nextTurn(), r.ownPauseEnd())
		if r.wasFailing && r.failures > 0 && lease.Crowded() { // others that fail are next
			notBefore = latest(notBefore, r.now().Add(d.failingPause))
		}
	}
	if errors.Is(err, storage.ErrNotFound) { // deleted: this cancels what is left of its deliveries
		_, err = d.store.DueDeliveries(work, storage.TakeDeliveries{Group: lease.Group, Owner: lease.Owner})
		return time.Time{}, err
	}
	return notBefore, err
}
