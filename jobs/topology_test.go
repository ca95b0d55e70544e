package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
	"oprelay/storage"
)

// refusals is a go-redis hook that keeps what a Cluster refuses for its keys.
type refusals struct {
	mu  sync.Mutex
	all []string
}

func (*refusals) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *refusals) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		r.note(cmd, err)
		return err
	}
}

func (r *refusals) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			r.note(cmd, cmd.Err())
		}
		return err
	}
}

func (r *refusals) note(cmd redis.Cmder, err error) {
	if err == nil || !slices.ContainsFunc([]string{"CROSSSLOT", "same slot", "non local key"}, func(s string) bool {
		return strings.Contains(err.Error(), s)
	}) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf("%.100v: %v", cmd.Args(), err))
}

// In a Cluster every node has its share of the tasks, no command wants keys of
// several, a slot may move, and a node may die and come back with nothing.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	cluster := testenv.StartRedisCluster(t, 3)
	b := sqliteBackend()
	b.redis = func(*testing.T) string { return cluster.URL }
	r := newRelay(t, b)
	refused := &refusals{}
	r.hook = refused
	r.start()
	r.start()
	r.wakes = nil // as if the commits were another process's
	var credentials []string
	var to []receiver
	all := func(prefix string) {
		t.Helper()
		want := make([]int, len(to))
		for i, credential := range credentials {
			want[i] = len(to[i].Arrivals()) + 3
			r.watch(credential, operations(fmt.Sprint(prefix, i), 3), to[i].id)
		}
		for i := range to {
			r.await(to[i], want[i])
		}
	}
	client := openRedis(t, cluster.URL)
	idle := func() (without []string) {
		done := processed(client)
		for _, kind := range []storage.GroupKind{storage.PollGroup, storage.DeliverGroup} {
			for _, name := range queues(client, kind) {
				if done[name] == 0 {
					without = append(without, name)
				}
			}
		}
		return without
	}
	waker := StartWaker(client, slog.New(slog.DiscardHandler), time.Now)
	nobody := map[string]storage.Group{} // a group of each queue
	for i := range 16 * clusterQueues {  // enough for each to get one
		for _, kind := range []storage.GroupKind{storage.PollGroup, storage.DeliverGroup} {
			g := storage.Group{Kind: kind, ID: fmt.Sprint("nobody", i)}
			nobody[queueOf(client, g)] = g
		}
	}
	eventually(t, func() bool {
		without := idle()
		for _, name := range without { // again, for what Redis takes a second to take is lost, and so is what waits
			waker.Wake(nameOf(nobody[name]))
		}
		return len(without) == 0
	}, nil, "a task of every queue to be done")
	waker.Stop()
	for range clusterQueues {
		credentials = append(credentials, r.credential(fmt.Sprint("token", len(to))))
		to = append(to, r.webhook(nil))
	}
	all("first ")
	holders := map[*testenv.Server]bool{}
	for name := range processed(client) {
		holders[cluster.Node("{"+name+"}")] = true
	}
	if len(holders) != len(cluster.Nodes) {
		t.Errorf("%d nodes have a queue, want all", len(holders))
	}
	queue := queueOf(client, storage.Group{Kind: storage.DeliverGroup, ID: to[0].id})
	cluster.Move("{" + queue + "}")
	r.tasksWork(cluster.URL, credentials[0], to[0])

	node := cluster.Node("{" + queue + "}")
	node.Kill()
	r.lines.await(t, 1, redisAway)
	all("without a node ")
	node.Restart()
	r.lines.await(t, 1, redisBack)
	r.tasksWork(cluster.URL, credentials[0], to[0])
	r.lines.await(t, 1, redisLost)
	r.lines.checkSaidOnce(t, 2)
	refused.mu.Lock()
	defer refused.mu.Unlock()
	if len(refused.all) > 0 {
		t.Errorf("refused: %q", slices.Compact(refused.all))
	}
}

// Whatever befalls a master: a replica takes its place, and tasks go by way of
// that one.
func TestRedisSentinel(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct{ harm, mend func(*testenv.Server) }{
		"killed":  {(*testenv.Server).Kill, (*testenv.Server).Restart},
		"stopped": {(*testenv.Server).Pause, (*testenv.Server).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sentinel := testenv.StartRedisSentinel(t, 1)
			b := sqliteBackend()
			b.redis = func(*testing.T) string { return sentinel.URL }
			r := newRelay(t, b)
			r.start()
			r.wakes = nil // as if the commits were another process's
			to, credential := r.webhook(nil), r.credential("token")
			r.tasksWork(sentinel.URL, credential, to)
			old := sentinel.Master()
			fault.harm(old)
			before := len(to.Arrivals())
			r.watch(credential, operations("meanwhile", 5), to.id)
			r.await(to, before+5)
			sentinel.AwaitFailover(old)
			r.lines.await(t, 1, redisBack)
			r.tasksWork(sentinel.URL, credential, to)
			fault.mend(old)
			sentinel.AwaitReplica(old)
			r.tasksWork(sentinel.URL, credential, to)
			r.lines.checkSaidOnce(t, 1)
		})
	}
}
