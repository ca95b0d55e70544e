package chaos

import (
	"testing"

	"oprelay/deploy/testenv"
)

// Every process is asked to stop and started again, one after another: nothing is
// lost, and nothing is sent twice.
func TestStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3)
	r.endure(t, fault{order: 80, name: "SIGTERM of every process, one after another", silent: true, inject: func(t *testing.T, e *episode) {
		t.Helper()
		for range max(1, theForm().kills/4) {
			e.api.Stop(stopLimit)
			e.api = e.start("api")
			e.recovered()
			for i := range e.workers {
				await(t, theForm().spell/5)
				e.workers[i].Stop(stopLimit)
				e.workers[i] = e.start("worker")
				e.recovered()
			}
		}
	}})
}
