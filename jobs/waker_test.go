package jobs

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
	"oprelay/storage"
)

// The lines of the log that people act on.
const (
	redisAway = "Redis does not answer"
	redisBack = "Redis answers again"
	redisLost = "Redis has lost its data"
)

func startWaker(t *testing.T, client redis.UniversalClient) (*Waker, *lines) {
	t.Helper()
	log, written := newLog()
	w := StartWaker(client, log, time.Now)
	t.Cleanup(w.Stop)
	eventually(t, func() bool { return client.Exists(t.Context(), epochKey).Val() == 1 }, nil, "the epoch key")
	return w, written
}

func pending(client redis.UniversalClient, kind storage.GroupKind) []string {
	inspector := asynq.NewInspectorFromRedisClient(client)
	tasks, err := inspector.ListPendingTasks(string(kind))
	if err != nil {
		return nil
	}
	var groups []string
	for _, task := range tasks {
		groups = append(groups, task.Type+" "+string(task.Payload))
	}
	return groups
}

func TestWakerEnqueues(t *testing.T) {
	t.Parallel()
	client := openRedis(t, testenv.Redis(t))
	w, written := startWaker(t, client)
	w.Wake([]storage.Group{{Kind: storage.PollGroup, ID: "budget"}, {Kind: storage.DeliverGroup, ID: "destination"}})
	eventually(t, func() bool { return len(pending(client, storage.DeliverGroup)) == 1 }, nil, "the wake-ups")
	if got := pending(client, storage.PollGroup); len(got) != 1 || got[0] != `relay:poll {"group":"budget"}` {
		t.Errorf("got %q", got)
	}
	if got := pending(client, storage.DeliverGroup); got[0] != `relay:deliver {"group":"destination"}` {
		t.Errorf("got %q", got)
	}
	if got := written.holding("level="); len(got) != 0 || !w.Up() {
		t.Errorf("logged %q", got)
	}
}

func TestEnqueueTwiceIsSuccess(t *testing.T) {
	t.Parallel()
	client := openRedis(t, embedded(t))
	tasks := asynq.NewClientFromRedisClient(client)
	now := time.Now()
	add := func(at time.Time, want bool) {
		t.Helper()
		task, err := newTask(group("a"), string(storage.DeliverGroup), at)
		if err != nil {
			t.Fatal(err)
		}
		if first, err := enqueue(t.Context(), tasks, task); err != nil || first != want {
			t.Fatalf("the first: %v, %v", first, err)
		}
	}
	add(now, true)
	for range 3 {
		add(now, false)
	}
	if got := pending(client, storage.DeliverGroup); len(got) != 1 {
		t.Errorf("got %q", got)
	}
	// A task that a killed worker left behind stalls its group no longer than a bucket.
	add(now.Add(taskBucket), true)
	if got := pending(client, storage.DeliverGroup); len(got) != 2 {
		t.Errorf("in the next bucket: %q", got)
	}
}

// The task that is there already may be one whose handler has looked at what is due:
// it has to look again, or what was committed since waits for a dispatcher.
func TestASecondWakeUpNudges(t *testing.T) {
	t.Parallel()
	client := openRedis(t, testenv.Redis(t))
	w, _ := startWaker(t, client)
	heard := client.Subscribe(t.Context(), nudgeChannel)
	t.Cleanup(func() { _ = heard.Close() })
	if _, err := heard.Receive(t.Context()); err != nil { // the subscription itself
		t.Fatal(err)
	}
	mine := group(rand.Text()) // others use this Redis too
	w.enqueue(t.Context(), group(mine.ID+" before"))
	w.enqueue(t.Context(), mine)
	w.enqueue(t.Context(), mine)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for told := ""; told != "deliver "+mine.ID; {
		message, err := heard.ReceiveMessage(ctx)
		if err != nil {
			t.Fatalf("not told: %v", err)
		}
		if told = message.Payload; strings.Contains(told, " before") {
			t.Fatalf("told of the first wake-up: %q", told)
		}
	}
}

func TestHandleTaskIgnoresWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	handle := handleTask(newCrew(slots(1), nil), storage.DeliverGroup) // any work would panic
	for _, payload := range []string{"", "{", "null", "{}", `{"group":""}`, `{"group":7}`} {
		if err := handle(t.Context(), asynq.NewTask("relay:deliver", []byte(payload))); err != nil {
			t.Errorf("%q: %v", payload, err)
		}
	}
}

func TestWakerAfterFlush(t *testing.T) {
	t.Parallel()
	client := openRedis(t, testenv.StartRedis(t).URL)
	w, written := startWaker(t, client)
	first := w.client.Load()
	w.Wake([]storage.Group{group("a")})
	eventually(t, func() bool { return len(pending(client, storage.DeliverGroup)) == 1 }, nil, "the wake-up")
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	written.await(t, 1, redisLost)
	eventually(t, func() bool { return w.client.Load() != first }, nil, "a new asynq client")
	// Only a new client registers its queues anew, for inspectors and metrics to see.
	w.Wake([]storage.Group{group("b")})
	eventually(t, func() bool {
		return client.SIsMember(t.Context(), "asynq:queues", string(storage.DeliverGroup)).Val()
	}, nil, "the queue's registration")
	if got := written.holding("level="); len(got) != 1 {
		t.Errorf("logged %q", got)
	}
}

func TestWakerOverARestart(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	client := openRedis(t, server.URL)
	w, written := startWaker(t, client)
	server.Kill()
	for range 200 { // each would be a line
		w.enqueue(t.Context(), group("a"))
	}
	written.await(t, 1, redisAway)
	if w.Up() {
		t.Error("up while Redis is away")
	}
	server.Restart()
	written.await(t, 1, redisBack)
	eventually(t, w.Up, nil, "up again")
	if got := written.holding("level="); len(got) != 2 {
		t.Errorf("logged %q", got)
	}
}

// A Redis that is out of memory answers reads and refuses every task: it is away,
// which is said once.
func TestWakerOutOfMemory(t *testing.T) {
	t.Parallel()
	client := openRedis(t, testenv.StartRedis(t, "--maxmemory-policy", "noeviction").URL)
	w, written := startWaker(t, client)
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return !w.enqueue(t.Context(), group("a")) }, nil, "a refusal")
	for range 3 {
		if w.check(t.Context()) == nil {
			t.Error("it counts as up")
		}
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	written.await(t, 1, redisBack)
	if got := written.holding("level="); len(got) != 2 || !strings.Contains(got[0], redisAway) {
		t.Errorf("logged %q", got)
	}
}

func TestWakerStopsQuietly(t *testing.T) {
	t.Parallel()
	client := openRedis(t, embedded(t))
	log, written := newLog()
	w := StartWaker(client, log, time.Now)
	for i := range wakeQueue {
		w.Wake([]storage.Group{group(string(rune(i)))})
	}
	w.Stop()
	w.Stop()
	if got := written.holding("level="); len(got) != 0 {
		t.Errorf("logged %q", got)
	}
}

// Nobody reads the queue here: what does not fit is dropped, and nobody waits.
func TestWakeNeverBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) {
		w := &Waker{queue: make(chan storage.Group, 2), log: slog.New(slog.DiscardHandler)}
		w.Wake([]storage.Group{group("a"), group("b"), group("c")})
		w.Wake([]storage.Group{group("d")})
	})
}

// What another process has registered waits for a look at the queue, and asynq's own
// default is a second.
func TestIdleWorkerLooksOften(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ set, want time.Duration }{{0, CheckInterval}, {time.Minute, time.Minute}} {
		got := serverConfig(Config{Redis: openRedis(t, embedded(t)), CheckInterval: c.set}, storage.PollGroup, 1)
		if got.TaskCheckInterval != c.want {
			t.Errorf("set to %v, asynq is told %v, want %v", c.set, got.TaskCheckInterval, c.want)
		}
	}
}
