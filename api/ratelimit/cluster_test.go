package ratelimit_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/api/ratelimit"
	"oprelay/deploy/testenv"
)

// In a Redis Cluster each caller's count is where its key is: processes count
// together there as anywhere, and while a node is away each for itself.
func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := testenv.StartRedisCluster(t, 3)
	const most, callers = 3, 30
	processes := []*counted{newCounted(t, cluster.URL), newCounted(t, cluster.URL)}
	for _, process := range processes { // finds the nodes, which may take longer than a count may
		if err := process.client.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	rate := ratelimit.Rate{N: most, Per: longEnough}
	nodes := map[*testenv.Server]bool{}
	for i := range callers {
		caller, allowed := strconv.Itoa(i), 0
		for range most {
			for _, process := range processes {
				if process.Limiter("test", rate).Take(t.Context(), caller).Allowed {
					allowed++
				}
			}
		}
		if allowed != most {
			t.Errorf("caller %s: %d were allowed, want %d", caller, allowed, most)
		}
		nodes[cluster.Node("rate:relay:test:"+caller)] = true
	}
	if len(nodes) != len(cluster.Nodes) {
		t.Errorf("counted on %d nodes, want on all", len(nodes))
	}
	// A count that cannot be is taken back, which is another command.
	first := processes[0]
	key := "rate:relay:test:0"
	if err := first.client.Set(t.Context(), key, float64(time.Now().Unix())+1e6, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		first.Limiter("test", rate).Take(t.Context(), "0")
	}
	if left := first.client.TTL(t.Context(), key).Val(); left <= 0 || left > longEnough {
		t.Errorf("the count is kept for %s", left)
	}
	for _, process := range processes {
		if process.log.Len() > 0 {
			t.Errorf("logged:\n%s", process.log)
		}
	}
	cluster.Nodes[0].Kill()
	limiter, allowed := first.Limiter("other", rate), 0
	for i := range callers * most * 2 {
		if limiter.Take(t.Context(), strconv.Itoa(i%callers)).Allowed {
			allowed++
		}
	}
	if allowed < callers*most || allowed > 2*callers*most || !strings.Contains(first.log.String(), "for itself") {
		t.Errorf("without a node %d were allowed, want %d; logged:\n%s", allowed, callers*most, first.log)
	}
}
