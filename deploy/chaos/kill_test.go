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
	for i, f := range []fault{
		{name: "kill -9 of a worker", inject: repeated(settled(killWorker))},
		{name: "kill -9 of all workers", inject: repeated(killAllWorkers)},
		{name: "kill -9 of the api", silent: true, inject: repeated(settled(killAPI))},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.order = i
			newRig(t, testenv.Postgres(t), testenv.Redis(t), 3).endure(t, f)
		})
	}
}

// settled kills, and waits in the long form until all that had been asked for is told:
// who takes over is not killed too, so that each kill's own recovery is seen.
func settled(kill func(*testing.T, *episode)) func(*testing.T, *episode) {
	return func(t *testing.T, e *episode) {
		t.Helper()
		kill(t, e)
		if *long {
			e.settle(t, e.load.books)
		}
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

// killAllWorkers leaves nobody to take over, and does not wait: what an earlier round
// held up may be held up again, and counts from the last.
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
