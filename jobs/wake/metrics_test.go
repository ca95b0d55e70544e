package wake

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
)

// What Redis holds is counted over all queues and nodes, whether it waits or is
// worked on, and also by who has enqueued it before a loss of data.
func TestTasksAreCounted(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"embedded": embedded,
		"one":      func(t *testing.T) string { t.Helper(); return testenv.StartRedis(t).URL },
		"cluster":  func(t *testing.T) string { t.Helper(); return testenv.StartRedisCluster(t, 3).URL },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := openRedis(t, url(t))
			w, _ := startWaker(t, client)
			enqueue := func(kind string, n int) {
				t.Helper()
				for i := range n {
					if !w.Enqueue(t.Context(), Group{Kind: kind, ID: fmt.Sprint("group", i)}) {
						t.Fatal("Redis took no task")
					}
				}
			}
			enqueue(pollKind, 20)
			enqueue(deliverKind, 7)
			wantTasks(t, w, 20, 7)
			work(t, client)
			wantTasks(t, w, 20, 7)
			flush(t, client)
			wantTasks(t, w, 0, 0)
			enqueue(deliverKind, 3)
			wantTasks(t, w, 0, 3)
		})
	}
}

func wantTasks(t *testing.T, w *Waker, polls, deliveries int) {
	t.Helper()
	const text = `
		# HELP relay_queue_tasks Wake-ups that Redis holds, waiting or being worked on, by kind; the work itself is in the database.
		# TYPE relay_queue_tasks gauge
		relay_queue_tasks{kind="deliver"} %d
		relay_queue_tasks{kind="poll"} %d
	`
	err := testutil.CollectAndCompare(w.Metrics(), strings.NewReader(fmt.Sprintf(text, deliveries, polls)), "relay_queue_tasks")
	if err != nil {
		t.Error(err)
	}
}

// work begins one of the tasks, and does not end it.
func work(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	begun, end := make(chan struct{}, 1), make(chan struct{})
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency: 1, Queues: queuesIn(client).weights(pollKind), LogLevel: asynq.FatalLevel,
	})
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		begun <- struct{}{}
		<-end
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	t.Cleanup(func() { close(end) })
	t.Cleanup(server.Stop)
	<-begun
}

// flush has Redis lose all that it holds.
func flush(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	forget := func(ctx context.Context, node *redis.Client) error { return node.FlushAll(ctx).Err() }
	err := client.FlushAll(t.Context()).Err()
	if cluster, ok := client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(t.Context(), forget)
	}
	if err != nil {
		t.Fatal(err)
	}
}
