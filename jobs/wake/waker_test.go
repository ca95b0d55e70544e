package wake

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
)

// The lines of the log that people act on.
const (
	redisAway = "Redis does not answer"
	redisBack = "Redis answers again"
	redisLost = "Redis has lost its data"
)

const pollKind, deliverKind = "poll", "deliver"

func group(id string) Group { return Group{deliverKind, id} }

func newLog() (*slog.Logger, *testenv.Output) {
	written := testenv.NewOutput()
	return slog.New(slog.NewTextHandler(written, nil)), written
}

// logged are the lines that contain the text.
func logged(written *testenv.Output, text string) []string {
	return slices.DeleteFunc(slices.Collect(strings.Lines(written.String())), func(line string) bool { return !strings.Contains(line, text) })
}

func await(t *testing.T, written *testenv.Output, text string) {
	t.Helper()
	eventually(t, func() bool { return len(logged(written, text)) > 0 }, "a line with "+text)
}

func eventually(t *testing.T, ok func() bool, what string) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	end := time.NewTimer(30 * time.Second)
	defer end.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-end.C:
			t.Fatal("in vain waited for " + what)
		}
	}
}

func startWaker(t *testing.T, client redis.UniversalClient) (*Waker, *testenv.Output) {
	t.Helper()
	log, written := newLog()
	w := Start(client, log, time.Now, pollKind, deliverKind)
	t.Cleanup(w.Stop)
	eventually(t, func() bool { return client.Exists(t.Context(), epochKey).Val() == 1 }, "the epoch key")
	return w, written
}

func pending(client redis.UniversalClient, kind string) []string {
	inspector := asynq.NewInspectorFromRedisClient(client)
	tasks, err := inspector.ListPendingTasks(kind)
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
	w.Wake(Group{pollKind, "budget"})
	w.Wake(group("destination"))
	eventually(t, func() bool { return len(pending(client, deliverKind)) == 1 }, "the wake-ups")
	if got := pending(client, pollKind); len(got) != 1 || got[0] != `relay:poll {"group":"budget"}` {
		t.Errorf("got %q", got)
	}
	if got := pending(client, deliverKind); got[0] != `relay:deliver {"group":"destination"}` {
		t.Errorf("got %q", got)
	}
	if got := logged(written, "level="); len(got) != 0 || !w.Up() {
		t.Errorf("logged %q", got)
	}
}

func TestEnqueueTwiceIsSuccess(t *testing.T) {
	t.Parallel()
	client := openRedis(t, embedded(t))
	tasks := asynq.NewClientFromRedisClient(client)
	now := time.Now()
	add := func(at time.Time) {
		t.Helper()
		task, err := newTask(group("a"), deliverKind, at)
		if err != nil {
			t.Fatal(err)
		}
		if err := enqueue(t.Context(), tasks, task); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		add(now)
	}
	if got := pending(client, deliverKind); len(got) != 1 {
		t.Errorf("got %q", got)
	}
	// A task that a killed worker left behind stalls its group no longer than a bucket.
	add(now.Add(taskBucket))
	if got := pending(client, deliverKind); len(got) != 2 {
		t.Errorf("in the next bucket: %q", got)
	}
}

// Each wake-up reaches whoever works on the group: also one whose task is there already, for
// its handler may have looked at what is due before.
func TestWakeUpsNudge(t *testing.T) {
	t.Parallel()
	client := openRedis(t, testenv.Redis(t))
	w, _ := startWaker(t, client)
	heard := client.Subscribe(t.Context(), nudgeChannel)
	t.Cleanup(func() { _ = heard.Close() })
	if _, err := heard.Receive(t.Context()); err != nil { // the subscription itself
		t.Fatal(err)
	}
	mine := group(rand.Text()) // others use this Redis too
	w.Enqueue(t.Context(), mine)
	w.Enqueue(t.Context(), mine)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for told := 0; told < 2; {
		message, err := heard.ReceiveMessage(ctx)
		if err != nil {
			t.Fatalf("told of %d wake-ups: %v", told, err)
		}
		if message.Payload == "deliver "+mine.ID+wakeUpMark {
			told++
		}
	}
}

func TestHandleTaskIgnoresWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	handle := handleTask(deliverKind, nil) // any work would panic
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
	w.Wake(group("a"))
	eventually(t, func() bool { return len(pending(client, deliverKind)) == 1 }, "the wake-up")
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	await(t, written, redisLost)
	eventually(t, func() bool { return w.client.Load() != first }, "a new asynq client")
	// Only a new client registers its queues anew, for inspectors and metrics to see.
	w.Wake(group("b"))
	eventually(t, func() bool {
		return client.SIsMember(t.Context(), "asynq:queues", deliverKind).Val()
	}, "the queue's registration")
	if got := logged(written, "level="); len(got) != 1 {
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
		w.Enqueue(t.Context(), group("a"))
	}
	await(t, written, redisAway)
	if w.Up() {
		t.Error("up while Redis is away")
	}
	server.Restart()
	await(t, written, redisBack)
	eventually(t, w.Up, "up again")
	if got := logged(written, "level="); len(got) != 2 {
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
	eventually(t, func() bool { return !w.Enqueue(t.Context(), group("a")) }, "a refusal")
	for range 3 {
		if w.check(t.Context()) == nil {
			t.Error("it counts as up")
		}
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	await(t, written, redisBack)
	if got := logged(written, "level="); len(got) != 2 || !strings.Contains(got[0], redisAway) {
		t.Errorf("logged %q", got)
	}
}

func TestWakerStopsQuietly(t *testing.T) {
	t.Parallel()
	client := openRedis(t, embedded(t))
	log, written := newLog()
	w := Start(client, log, time.Now, pollKind, deliverKind)
	for i := range wakeQueue {
		w.Wake(group(string(rune(i))))
	}
	w.Stop()
	w.Stop()
	if got := logged(written, "level="); len(got) != 0 {
		t.Errorf("logged %q", got)
	}
}

// Nobody reads the queue here: what does not fit is dropped, and nobody waits.
func TestWakeNeverBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) {
		w := &Waker{queue: make(chan Group, 2), log: slog.New(slog.DiscardHandler)}
		for _, id := range []string{"a", "b", "c", "d"} {
			w.Wake(group(id))
		}
	})
}
