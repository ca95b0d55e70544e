package wake

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
)

// hearsNews has a waker hear news, and returns once it does.
func hearsNews(t *testing.T, client redis.UniversalClient) (*Waker, <-chan string) {
	t.Helper()
	w, _ := startWaker(t, client)
	before := client.PubSubNumSub(t.Context(), newsChannel).Val()[newsChannel]
	heard := make(chan string, 10000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.HearNews(ctx, func() bool { return false }, func(items []string) {
			for _, item := range items {
				heard <- item
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	eventually(t, func() bool {
		return client.PubSubNumSub(t.Context(), newsChannel).Val()[newsChannel] > before
	}, "the subscription")
	return w, heard
}

// What one process tells all others hear, once; and not itself. Hints give way to items.
func TestNews(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"Redis":    func(t *testing.T) string { t.Helper(); return testenv.StartRedis(t).URL },
		"embedded": embedded,
		"cluster":  func(t *testing.T) string { t.Helper(); return testenv.StartRedisCluster(t, 3).URL },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := url(t)
			teller, own := hearsNews(t, openRedis(t, address))
			_, one := hearsNews(t, openRedis(t, address))
			_, two := hearsNews(t, openRedis(t, address))
			hints := make([]string, 3*newsMost)
			for i := range hints {
				hints[i] = fmt.Sprint("hint ", i)
			}
			teller.Tell(nil, hints)
			teller.Tell([]string{"a", "b", "a"}, nil)
			teller.Tell([]string{"a"}, hints[:1])
			for _, heard := range []<-chan string{one, two} {
				var all []string
				for !slices.Contains(all, "a") || !slices.Contains(all, "b") {
					all = append(all, <-heard)
				}
				if len(all) > 2*newsMost+4 { // of up to two messages
					t.Errorf("%d items were heard", len(all))
				}
			}
			select {
			case item := <-own:
				t.Errorf("it hears itself: %s", item)
			default:
			}
		})
	}
}

// Hints are wanted by all while one wants them.
func TestHinted(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"Redis":   func(t *testing.T) string { t.Helper(); return testenv.StartRedis(t).URL },
		"cluster": func(t *testing.T) string { t.Helper(); return testenv.StartRedisCluster(t, 3).URL },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := url(t)
			teller, _ := startWaker(t, openRedis(t, address))
			hearer, _ := startWaker(t, openRedis(t, address))
			var wanted atomic.Bool
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				hearer.HearNews(ctx, wanted.Load, func([]string) {})
			}()
			t.Cleanup(func() { cancel(); <-done })
			if teller.Hinted() {
				t.Error("nobody wants hints")
			}
			wanted.Store(true)
			eventually(t, teller.Hinted, "hints to be wanted")
			wanted.Store(false)
			eventually(t, func() bool { return !teller.Hinted() }, "hints to be wanted no more")
		})
	}
}

// Without Redis nobody waits, and what is to be told does not grow.
func TestNewsWithoutRedis(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	w, written := startWaker(t, openRedis(t, server.URL))
	server.Kill()
	await(t, written, redisAway)
	for i := range 10 * newsMost {
		w.Tell([]string{strconv.Itoa(i)}, nil)
	}
	if n := len(w.news.items); n > 0 {
		t.Errorf("%d items wait", n)
	}
}
