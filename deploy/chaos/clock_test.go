package chaos

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"oprelay/deploy/testenv"
)

// clockVariable names a file that says how wrong the wall clock is.
const clockVariable = "RELAY_CHAOS_CLOCK"

// The wall clock of all processes steps by an hour, while messages are in flight
// and leases held: nothing is lost or doubled, and nothing waits for an hour.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	clock := filepath.Join(t.TempDir(), "clock")
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3, clockVariable, clock)
	for i, f := range []struct {
		name string
		by   time.Duration
	}{
		{"the clock steps forward by 1 h", time.Hour},
		{"the clock steps back by 1 h", 0},
		{"the clock steps back by 1 h once more, and a worker is killed", -time.Hour},
	} {
		t.Run(f.name, func(t *testing.T) {
			r.endure(t, fault{order: 72 + i, name: f.name, inject: func(t *testing.T, e *episode) {
				t.Helper()
				if err := os.WriteFile(clock, []byte(f.by.String()), 0o600); err != nil {
					t.Fatal(err)
				}
				e.recovered()
				if f.by < 0 {
					killWorker(t, e)
				}
			}})
		})
	}
}
