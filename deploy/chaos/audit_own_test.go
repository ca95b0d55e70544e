package chaos

import (
	"testing"
	"time"
)

// Only what a process had sent when it was killed may come again.
func TestOnlyAKillExcusesADuplicate(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	r := &rig{killed: []killing{{at: at(100), connections: []string{"a"}}, {at: at(200), connections: []string{"b"}}}}
	for name, c := range map[string]struct {
		accepted acceptance
		want     int
	}{
		"just before its kill":          {acceptance{at(99), "a"}, 1},
		"just after, from its buffers":  {acceptance{at(101), "a"}, 1},
		"long before its kill":          {acceptance{at(50), "a"}, 0},
		"before the kill of another":    {acceptance{at(199), "a"}, 0},
		"from one that was not killed":  {acceptance{at(100), "c"}, 0},
		"the address of another's then": {acceptance{at(150), "a"}, 0},
	} {
		if n := r.ofKilled([]acceptance{c.accepted}); n != c.want {
			t.Errorf("%s: %d are excused, want %d", name, n, c.want)
		}
	}
}
