package jobs

import (
	"context"
	"fmt"
	"hash/crc32"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
	"oprelay/storage"
)

const (
	// countedFor and mostCommands are how many commands a process may send to Redis
	// in how long. At rest it sends some 50 a second; a loop without a pause, 15,000.
	countedFor   = 2 * time.Second
	mostCommands = 300
)

// commandCount is a go-redis hook that counts.
type commandCount struct{ atomic.Int64 }

func (c *commandCount) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *commandCount) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.Add(1)
		return next(ctx, cmd)
	}
}

func (c *commandCount) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.Add(1)
		return next(ctx, cmds)
	}
}

// Whatever befalls Redis: what becomes due meanwhile is done all the same, nothing
// spins, and soon afterwards tasks go by way of Redis again.
func TestRedisFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name       string
		harm, mend func(*testing.T, *testenv.Server, *testenv.Proxy)
	}{
		{"cut", cutOften, nothing},
		{"refused", byProxy((*testenv.Proxy).Refuse), byProxy((*testenv.Proxy).Restore)},
		{"silent", byProxy((*testenv.Proxy).Silence), byProxy((*testenv.Proxy).Restore)},
		{"forgotten", byProxy(func(p *testenv.Proxy) { p.Silence(); p.Restore() }), nothing},
		{"slow", byProxy(func(p *testenv.Proxy) { p.Slow(300 * time.Millisecond) }), byProxy((*testenv.Proxy).Restore)},
		{"stopped", byServer((*testenv.Server).Pause), byServer((*testenv.Server).Resume)},
		{"out of memory", withMemory("1"), withMemory("0")},
		{"restarted empty", byServer((*testenv.Server).Kill), byServer((*testenv.Server).Restart)},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			b := sqliteBackend()
			server := testenv.StartRedis(t)
			proxy := testenv.StartProxy(t, server.URL)
			b.redis = func(*testing.T) string { return proxy.URL }
			r := newRelay(t, b)
			commands := &commandCount{}
			r.hook = commands
			r.start()
			r.wakes = nil // as if the commits were another process's
			to, credential := r.webhook(nil), r.credential("token")
			r.watch(credential, []string{"before"}, to.id)
			r.await(to, 1)
			fault.harm(t, server, proxy)
			r.watch(credential, operations("meanwhile", 5), to.id)
			r.await(to, 6)
			from := commands.Load()
			wait(t.Context(), countedFor)
			if n := commands.Load() - from; n > mostCommands {
				t.Errorf("%d commands in %s", n, countedFor)
			}
			fault.mend(t, server, proxy)
			back := time.Now()
			r.tasksWork(server.URL, credential, to)
			t.Logf("tasks are worked again %s after the end", time.Since(back).Round(time.Millisecond))
			r.lines.checkSaidOnce(t, 1)
		})
	}
}

// tasksWork registers watches until a task of theirs is done.
func (r *relay) tasksWork(redisURL, credential string, to receiver) {
	r.t.Helper()
	client := openRedis(r.t, redisURL)
	done := func() int {
		return processed(client)[queueOf(client, to.group())]
	}
	sent := len(to.Arrivals())
	for before, since := done(), time.Now(); done() <= before; sent++ {
		if time.Since(since) > patience {
			r.t.Fatal("what is due is done, but no more by way of Redis")
		}
		r.watch(credential, []string{"after " + time.Now().Format(time.RFC3339Nano)}, to.id)
		r.await(to, sent+1)
	}
}

// clusterQueues is how many queues each kind of group has in a Redis Cluster.
const clusterQueues = 4

// queues are the names of a kind's queues.
func queues(client redis.UniversalClient, kind storage.GroupKind) []string {
	if _, ok := client.(*redis.ClusterClient); !ok {
		return []string{string(kind)}
	}
	var all []string
	for i := range clusterQueues {
		all = append(all, fmt.Sprintf("%s:%d", kind, i))
	}
	return all
}

func queueOf(client redis.UniversalClient, g storage.Group) string {
	all := queues(client, g.Kind)
	return all[int(crc32.ChecksumIEEE([]byte(g.ID)))%len(all)]
}

// processed is how many tasks were done of each queue that any has come to, as asynq
// counts them in Redis.
func processed(client redis.UniversalClient) map[string]int {
	done := map[string]int{}
	for _, kind := range []storage.GroupKind{storage.PollGroup, storage.DeliverGroup} {
		for _, name := range queues(client, kind) {
			if n, err := client.Get(context.Background(), "asynq:{"+name+"}:processed").Int(); err == nil {
				done[name] = n
			}
		}
	}
	return done
}

func byProxy(do func(*testenv.Proxy)) func(*testing.T, *testenv.Server, *testenv.Proxy) {
	return func(_ *testing.T, _ *testenv.Server, p *testenv.Proxy) { do(p) }
}

func byServer(do func(*testenv.Server)) func(*testing.T, *testenv.Server, *testenv.Proxy) {
	return func(_ *testing.T, s *testenv.Server, _ *testenv.Proxy) { do(s) }
}

// withMemory sets how much Redis may use: 0 is without limit.
func withMemory(bytes string) func(*testing.T, *testenv.Server, *testenv.Proxy) {
	return func(t *testing.T, s *testenv.Server, _ *testenv.Proxy) {
		t.Helper()
		if err := openRedis(t, s.URL).ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func nothing(*testing.T, *testenv.Server, *testenv.Proxy) {}

func cutOften(_ *testing.T, _ *testenv.Server, p *testenv.Proxy) {
	for range 10 {
		p.Cut()
	}
}
