package ratelimit_test

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/api/ratelimit"
	"oprelay/deploy/testenv"
	"oprelay/jobs/wake"
)

// longEnough is a period in which no test gains a token.
const longEnough = time.Hour

// counted is a Counter as a process has it, on a clock of the test's.
type counted struct {
	*ratelimit.Counter

	client redis.UniversalClient
	asked  *asked
	log    *bytes.Buffer
	now    atomic.Int64 // what was added to the real time
}

func newCounted(t testing.TB, url string) *counted {
	t.Helper()
	client, err := wake.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c := &counted{client: client, asked: &asked{}, log: &bytes.Buffer{}}
	client.AddHook(c.asked)
	c.Counter = ratelimit.New(client, slog.New(slog.NewTextHandler(c.log, nil)),
		func() time.Time { return time.Now().Add(time.Duration(c.now.Load())) })
	return c
}

func (c *counted) advance(by time.Duration) { c.now.Add(int64(by)) }

// asked is a hook that counts the calls of scripts.
type asked struct{ calls atomic.Int64 }

func (*asked) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*asked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a *asked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") {
			a.calls.Add(1)
		}
		return next(ctx, cmd)
	}
}

// eachRedis runs a test on every Redis that a relay may have.
func eachRedis(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("a server", func(t *testing.T) {
		t.Parallel()
		test(t, testenv.Redis(t))
	})
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		embedded, err := wake.StartEmbedded()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(embedded.Close)
		test(t, embedded.URL())
	})
}

func TestProcessesCountTogether(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, url string) {
		t.Helper()
		const most, each = 100, 60
		var allowed atomic.Int64
		var all sync.WaitGroup
		processes := []*counted{newCounted(t, url), newCounted(t, url), newCounted(t, url)}
		for _, process := range processes {
			limiter := process.Limiter("test", ratelimit.Rate{N: most, Per: longEnough})
			all.Go(func() {
				for range each {
					if limiter.Take(t.Context(), "a").Allowed {
						allowed.Add(1)
					}
				}
			})
		}
		all.Wait()
		if n := allowed.Load(); n != most {
			t.Errorf("%d of %d were allowed, want %d", n, each*len(processes), most)
		}
		other := processes[0].Limiter("test", ratelimit.Rate{N: most, Per: longEnough}).Take(t.Context(), "b")
		if !other.Allowed || other.Remaining < most-2 {
			t.Errorf("another caller has %+v", other)
		}
		for _, process := range processes {
			if process.log.Len() > 0 {
				t.Errorf("logged:\n%s", process.log)
			}
		}
	})
}

func TestWhatIsLeft(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, url string) {
		t.Helper()
		here := newCounted(t, "redis://127.0.0.1:1") // nothing answers there
		for where, counter := range map[string]*counted{"Redis": newCounted(t, url), "this process": here} {
			limiter := counter.Limiter("left", ratelimit.Rate{N: 4, Per: longEnough})
			for range 2 {
				limiter.Take(t.Context(), "a")
			}
			near := func(got, want time.Duration) bool { return (got - want).Abs() < time.Minute }
			if s := limiter.Take(t.Context(), "a"); !s.Allowed || s.Remaining != 1 || s.Retry != 0 || !near(s.Reset, 45*time.Minute) {
				t.Errorf("%s: one left is %+v", where, s)
			}
			if s := limiter.Take(t.Context(), "a"); !s.Allowed || s.Remaining != 0 || !near(s.Reset, time.Hour) {
				t.Errorf("%s: the last is %+v", where, s)
			}
			if s := limiter.Take(t.Context(), "a"); s.Allowed || s.Remaining != 0 || !near(s.Retry, 15*time.Minute) {
				t.Errorf("%s: none left is %+v", where, s)
			}
			if counter == here {
				continue // where the clock is the test's
			}
			if calls := counter.asked.calls.Load(); calls > 5+1 { // the script itself is sent once
				t.Errorf("%d calls for 5 counts", calls)
			}
		}
	})
}

// Redis away neither opens the door nor closes it.
func TestWithoutRedisEachProcessCounts(t *testing.T) {
	t.Parallel()
	faults := map[string]func(*testenv.Server) (heal func()){
		"away":    func(s *testenv.Server) func() { s.Kill(); return s.Restart },
		"hanging": func(s *testenv.Server) func() { s.Pause(); return s.Resume },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const most = 5
			server := testenv.StartRedis(t)
			counter := newCounted(t, server.URL)
			limiter := counter.Limiter("test", ratelimit.Rate{N: most, Per: longEnough})
			if s := limiter.Take(t.Context(), "a"); !s.Allowed {
				t.Fatalf("with Redis: %+v", s)
			}
			heal := fault(server)
			before := counter.asked.calls.Load()
			allowed := 0
			for range 2 * most {
				if limiter.Take(t.Context(), "a").Allowed {
					allowed++
				}
			}
			if allowed != most {
				t.Errorf("%d were allowed, want %d", allowed, most)
			}
			if calls := counter.asked.calls.Load() - before; calls != 1 {
				t.Errorf("Redis was asked %d times, want once", calls)
			}
			counter.advance(10 * time.Second)
			limiter.Take(t.Context(), "a")
			if calls := counter.asked.calls.Load() - before; calls != 2 {
				t.Errorf("after the pause Redis was asked %d times, want one more", calls)
			}
			heal()
			limit := time.Now().Add(time.Minute)
			for !strings.Contains(counter.log.String(), "in Redis again") && time.Now().Before(limit) {
				counter.advance(10 * time.Second)
				limiter.Take(t.Context(), "b")
			}
			if log := counter.log.String(); strings.Count(log, "for itself") != 1 || strings.Count(log, "in Redis again") != 1 {
				t.Errorf("the log does not tell once of the outage and of its end:\n%s", log)
			}
		})
	}
}

// A client that hangs up is no outage.
func TestACanceledRequestCountsAsAny(t *testing.T) {
	t.Parallel()
	counter := newCounted(t, testenv.Redis(t))
	limiter := counter.Limiter("test", ratelimit.Rate{N: 2, Per: longEnough})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s := limiter.Take(ctx, "a"); !s.Allowed || s.Remaining > 1 {
		t.Errorf("%+v", s)
	}
	if counter.log.Len() > 0 {
		t.Errorf("logged:\n%s", counter.log)
	}
}

// Redis's clock set back by an hour must not refuse everybody for that hour.
func TestACountFromTheFutureIsForgotten(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, url string) {
		t.Helper()
		counter := newCounted(t, url)
		limiter := counter.Limiter("test", ratelimit.Rate{N: 10, Per: time.Second})
		limiter.Take(t.Context(), "a")
		keys := counter.client.Keys(t.Context(), "*").Val()
		if len(keys) != 1 {
			t.Fatalf("keys %q", keys)
		}
		at, err := strconv.ParseFloat(counter.client.Get(t.Context(), keys[0]).Val(), 64)
		if err != nil {
			t.Fatal(err)
		}
		if err := counter.client.Set(t.Context(), keys[0], at+3600, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if s := limiter.Take(t.Context(), "a"); !s.Allowed {
				t.Errorf("refused for %s", s.Retry)
			}
		}
		if left := counter.client.TTL(t.Context(), keys[0]).Val(); left > time.Second {
			t.Errorf("the count is kept for %s", left)
		}
	})
}

// Many callers cost a bounded memory.
func TestCallersAreForgotten(t *testing.T) {
	t.Parallel()
	counter := newCounted(t, "redis://127.0.0.1:1")
	limiter := counter.Limiter("test", ratelimit.Rate{N: 1, Per: longEnough})
	for i := range 3 * ratelimit.MaxLocal {
		limiter.Take(t.Context(), strconv.Itoa(i))
	}
	if n := limiter.Local(); n != ratelimit.MaxLocal {
		t.Errorf("%d callers are remembered, want %d", n, ratelimit.MaxLocal)
	}
}

// BenchmarkTake shows what counting costs where.
func BenchmarkTake(b *testing.B) {
	embedded, err := wake.StartEmbedded()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(embedded.Close)
	counters := map[string]*ratelimit.Counter{
		"process":  ratelimit.New(nil, slog.New(slog.DiscardHandler), time.Now),
		"embedded": newCounted(b, embedded.URL()).Counter,
		"server":   newCounted(b, testenv.Redis(b)).Counter,
	}
	for where, counter := range counters {
		limiter := counter.Limiter("test", ratelimit.Rate{N: 1 << 20, Per: time.Second})
		b.Run(where, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					limiter.Take(b.Context(), "a")
				}
			})
		})
	}
}
