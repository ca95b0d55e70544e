package ratelimit_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/api/ratelimit"
	"oprelay/deploy/testenv"
)

// refused is a hook that keeps the errors that Redis itself answers with. It lets
// Redis take the time that it needs, so that a busy machine looks like no outage.
type refused struct {
	mu      sync.Mutex
	answers []string
}

func (*refused) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*refused) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *refused) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(context.WithoutCancel(ctx), cmd)
		var answer redis.Error
		if errors.As(err, &answer) && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "NOSCRIPT") && !redis.HasErrorPrefix(err, "CLUSTERDOWN") {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.answers = append(r.answers, err.Error())
		}
		return err
	}
}

// In a Redis Cluster each caller's count is where its key is, and nothing wants
// keys of several nodes. While a node is away each process counts for itself.
func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := testenv.StartRedisCluster(t, 3)
	const most, callers = 3, 30
	counter, answers := newCounted(t, cluster.URL), &refused{}
	counter.client.AddHook(answers)
	rate := ratelimit.Rate{N: most, Per: longEnough}
	limiter := counter.Limiter("test", rate)
	takeAll := func() (allowed int) {
		for i := range callers * most * 2 {
			if limiter.Take(t.Context(), strconv.Itoa(i%callers)).Allowed {
				allowed++
			}
		}
		return allowed
	}
	allowed := takeAll()
	nodes := map[*testenv.Server]bool{}
	for i := range callers {
		nodes[cluster.Node("rate:relay:test:"+strconv.Itoa(i))] = true
	}
	if len(nodes) != len(cluster.Nodes) || len(answers.answers) > 0 {
		t.Errorf("counted on %d nodes, want on all; Redis refused %q", len(nodes), slices.Compact(answers.answers))
	}
	if allowed != callers*most || counter.log.Len() > 0 {
		t.Errorf("%d were allowed, want %d; logged:\n%s", allowed, callers*most, counter.log)
	}
	// A count that cannot be is taken back, which is another command.
	key := "rate:relay:test:0"
	if err := counter.client.Set(t.Context(), key, float64(time.Now().Unix())+1e6, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	limiter.Take(t.Context(), "0")
	if len(answers.answers) > 0 {
		t.Errorf("Redis refused %q", slices.Compact(answers.answers))
	}

	cluster.Nodes[0].Kill()
	limiter = counter.Limiter("other", rate)
	if n := takeAll(); n < callers*most || n > 2*callers*most || !strings.Contains(counter.log.String(), "for itself") {
		t.Errorf("without a node %d were allowed, want %d; logged:\n%s", n, callers*most, counter.log)
	}
}
