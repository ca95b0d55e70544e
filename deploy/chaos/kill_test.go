package chaos

import (
	"math/rand/v2"
	"testing"
	"time"

	"oprelay/deploy/testenv"
)

// Processes are killed at random moments, and started again some time later: one
// worker, all workers, the api.
func TestKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3)
	for i, f := range []fault{
		{name: "kill -9 of a worker", inject: repeated(killWorker)},
		{name: "kill -9 of all workers", inject: repeated(killAllWorkers)},
		{name: "kill -9 of the api", silent: true, inject: repeated(killAPI)},
	} {
		t.Run(f.name, func(t *testing.T) {
			f.order = i
			r.endure(t, f)
		})
	}
}

// repeated kills as often as the form says, at random moments.
func repeated(kill func(*testing.T, *episode)) func(*testing.T, *episode) {
	return func(t *testing.T, e *episode) {
		t.Helper()
		for range theForm().kills {
			await(t, 200*time.Millisecond+rand.N(time.Second))
			kill(t, e)
		}
	}
}

// killWorker leaves the others to take over, and starts another some time later.
func killWorker(t *testing.T, e *episode) {
	t.Helper()
	i := rand.IntN(len(e.workers))
	e.kill(e.workers[i])
	e.recovered()
	await(t, rand.N(time.Second))
	e.workers[i] = e.start("worker")
}

// killAllWorkers leaves nobody to take over: what an earlier round held up may be
// held up again, and counts from the last.
func killAllWorkers(t *testing.T, e *episode) {
	t.Helper()
	e.marks = nil
	for _, w := range e.workers {
		e.kill(w)
	}
	await(t, rand.N(time.Second))
	for i := range e.workers {
		e.workers[i] = e.start("worker")
	}
	e.recovered()
}

func killAPI(t *testing.T, e *episode) {
	t.Helper()
	e.kill(e.api)
	await(t, rand.N(time.Second))
	e.api = e.start("api")
	e.recovered()
}
