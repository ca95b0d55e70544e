// Package ratelimit counts what callers do against a rate: in Redis, for all
// processes together, and while Redis does not answer in this process alone. An
// outage of Redis neither refuses everybody nor lifts the limits.
package ratelimit

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/jellydator/ttlcache/v3"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"
)

// maxLocal bounds how many callers are counted in this process at once: beyond it
// the one that was quiet for longest starts afresh.
const maxLocal = 10_000

// Rate allows N at once, and N in each Per from then on. The zero Rate is none.
type Rate struct {
	N   int
	Per time.Duration
}

// each is the time in which one becomes available again.
func (r Rate) each() time.Duration { return r.Per / time.Duration(r.N) }

// State is what a caller has left.
type State struct {
	// Allowed says whether there was one to take.
	Allowed   bool
	Remaining int
	// Retry is the time until one can be had; 0 if one can now.
	Retry time.Duration
	// Reset is the time until all N can be had.
	Reset time.Duration
}

// state is what is left when all will be there after reset.
func (r Rate) state(allowed bool, remaining int, reset time.Duration) State {
	return State{
		Allowed: allowed, Remaining: max(remaining, 0), Reset: max(reset, 0),
		Retry: max(reset-(r.Per-r.each()), 0),
	}
}

// Counter is where limiters count. Redis takes one script with one key for each
// count (GCRA), which works on a cluster too.
type Counter struct {
	redis *redis_rate.Limiter // nil for this process alone
	outage
}

// New makes a Counter. The client stays the caller's. It is nil where the only
// process has an embedded Redis, which would be slower than counting here.
func New(client redis.UniversalClient, log *slog.Logger, now func() time.Time) *Counter {
	c := &Counter{outage: outage{log: log, now: now}}
	if client != nil {
		c.redis = redis_rate.NewLimiter(client)
	}
	return c
}

// Limiter holds callers to one rate, each for itself.
type Limiter struct {
	rate    Rate
	counter *Counter
	name    string
	local   *ttlcache.Cache[string, *rate.Limiter]
}

// Limiter makes a limiter. Limiters of one name and rate count together, in
// whatever process they are. The rate must not be zero.
func (c *Counter) Limiter(name string, r Rate) *Limiter {
	return &Limiter{
		rate: r, counter: c, name: "relay:" + name + ":",
		// What was idle for Per has all of its N again: forgetting it changes nothing.
		local: ttlcache.New(ttlcache.WithTTL[string, *rate.Limiter](r.Per), ttlcache.WithCapacity[string, *rate.Limiter](maxLocal)),
	}
}

// Rate is what the limiter was made with.
func (l *Limiter) Rate() Rate { return l.rate }

// Take takes one for the caller, if there is one.
func (l *Limiter) Take(ctx context.Context, caller string) State {
	if l.counter.redis != nil && l.counter.mayAsk() {
		if state, ok := l.ask(ctx, caller); ok {
			return state
		}
	}
	return l.countHere(caller)
}

// ask asks Redis: one call, of a script with one key.
func (l *Limiter) ask(ctx context.Context, caller string) (State, bool) {
	// A client that hangs up must not count as a Redis that is away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	limit := redis_rate.Limit{Rate: l.rate.N, Burst: l.rate.N, Period: l.rate.Per}
	result, err := l.counter.redis.Allow(ctx, l.name+caller, limit)
	if err == nil && result.ResetAfter > l.rate.Per+l.rate.each() {
		// Nothing lasts that long, unless Redis's clock was set back or the rate
		// was another before: the count would lock the caller out for as long.
		err = l.counter.redis.Reset(ctx, l.name+caller)
		l.counter.answered(err)
		return State{}, false
	}
	l.counter.answered(err)
	if err != nil {
		return State{}, false
	}
	return l.rate.state(result.Allowed > 0, result.Remaining, result.ResetAfter), true
}

func (l *Limiter) countHere(caller string) State {
	now := l.counter.now()
	item, _ := l.local.GetOrSetFunc(caller, func() *rate.Limiter {
		return rate.NewLimiter(rate.Every(l.rate.each()), l.rate.N)
	})
	bucket := item.Value()
	allowed := bucket.AllowN(now, 1)
	tokens := bucket.TokensAt(now)
	reset := time.Duration((float64(l.rate.N) - tokens) * float64(l.rate.each()))
	return l.rate.state(allowed, int(math.Floor(tokens)), reset)
}
