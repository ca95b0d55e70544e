package chaos

import (
	"testing"
	"time"
)

// Each round of a fault that comes again and again has its own recovery.
func TestRecoveryCountsFromWhatHeldUp(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	marks := []time.Time{at(10), at(20), at(30), at(40)}
	for name, c := range map[string]struct {
		asked, over, told int
		want              time.Duration
	}{
		"held up by the first round until after the last": {asked: 5, over: 6, told: 41, want: 31 * time.Second},
		"held up by a round in the middle":                {asked: 12, over: 13, told: 39, want: 19 * time.Second},
		"over after the round":                            {asked: 5, over: 12, told: 13, want: time.Second},
		"told before anything went wrong":                 {asked: 5, over: 6, told: 7},
		"asked for after the last round":                  {asked: 41, over: 42, told: 60, want: 18 * time.Second},
	} {
		b := newBooks()
		b.enter(&entry{operation: name, asked: at(c.asked), over: at(c.over), told: at(c.told)})
		if got := b.recovery(marks); got != c.want {
			t.Errorf("%s: recovered in %s, want %s", name, got, c.want)
		}
	}
}
