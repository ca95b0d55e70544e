package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"oprelay/storage"
)

// A task wakes a group; its type is named after the group's kind.
const taskPrefix = "relay:"

// taskBucket is how long a task's id stays the same: a second wake-up of a group
// within it is dropped while the first is there. It is short because a task of a
// worker that was killed keeps its id for a minute or two.
const taskBucket = 5 * time.Second

// taskTimeout is when asynq gives up on a handler. A shift that lasts longer goes
// on by itself: the task only had to start it.
const taskTimeout = time.Minute

type taskPayload struct {
	Group string `json:"group"`
}

// newTask makes the wake-up of a group, for a queue.
func newTask(g storage.Group, queue string, now time.Time) (*asynq.Task, error) {
	payload, err := json.Marshal(taskPayload{g.ID})
	if err != nil {
		return nil, fmt.Errorf("encode a task: %w", err)
	}
	id := fmt.Sprintf("%s:%s:%d", g.Kind, g.ID, now.UnixNano()/int64(taskBucket))
	return asynq.NewTask(taskPrefix+string(g.Kind), payload,
		asynq.TaskID(id), asynq.Queue(queue), asynq.Timeout(taskTimeout)), nil
}

// handleTask has the crew work through the task's group. It never fails: what is
// still due afterwards is found by the dispatcher.
func handleTask(c *crew, kind storage.GroupKind) asynq.HandlerFunc {
	return func(ctx context.Context, t *asynq.Task) error {
		var p taskPayload
		if err := json.Unmarshal(t.Payload(), &p); err != nil || p.Group == "" {
			return nil //nolint:nilerr // not ours, or older than this version: the row is the truth
		}
		c.run(ctx, storage.Group{Kind: kind, ID: p.Group})
		return nil
	}
}

// enqueue puts a wake-up into Redis. It is false if one is there already.
func enqueue(ctx context.Context, client *asynq.Client, wakeUp *asynq.Task) (first bool, err error) {
	_, err = client.EnqueueContext(ctx, wakeUp)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return false, nil
	}
	return err == nil, err
}
