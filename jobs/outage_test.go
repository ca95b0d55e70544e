package jobs

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"oprelay/storage"
)

// lines is a log that a test can read while it is written.
type lines struct {
	mu      sync.Mutex
	all     []string
	changed chan struct{}
}

// The lines of the log that people act on.
const (
	redisAway = "Redis does not answer"
	redisBack = "Redis answers again"
	redisLost = "Redis has lost its data"
)

func newLog() (*slog.Logger, *lines) {
	l := &lines{changed: make(chan struct{}, 1)}
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo})), l
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(line))
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return len(line), nil
}

// holding returns the lines that contain the text.
func (l *lines) holding(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.all), func(line string) bool { return !strings.Contains(line, text) })
}

// await returns when at least n lines contain the text.
func (l *lines) await(t *testing.T, n int, text string) {
	t.Helper()
	eventually(t, func() bool { return len(l.holding(text)) >= n }, l.changed, "%d lines with %q", n, text)
}

// checkSaidOnce checks that nothing was said of Redis but that it is away, is back, or
// has lost its data; and that each of so many workers says nothing more of an outage until
// it is over. How many outages a busy machine makes of one is left open.
func (l *lines) checkSaidOnce(t *testing.T, workers int) {
	t.Helper()
	all, away := l.holding("level="), 0
	for _, line := range all {
		switch {
		case strings.Contains(line, redisAway):
			away++
		case strings.Contains(line, redisBack):
			away--
		case strings.Contains(line, redisLost), strings.Contains(line, "the database"): // which a busy disk holds up
		default:
			t.Errorf("logged %q", line)
		}
		if away < 0 || away > workers {
			t.Fatalf("an outage was said more than once, or its end: %q", all)
		}
	}
}

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// eventually waits until ok, asking whenever changed says so and now and then.
func eventually(t *testing.T, ok func() bool, changed <-chan struct{}, what string, args ...any) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	end := time.NewTimer(patience)
	defer end.Stop()
	for !ok() {
		select {
		case <-changed:
		case <-ticker.C:
		case <-end.C:
			t.Fatalf("in vain waited for "+what, args...)
		}
	}
}

func TestOutageIsTwoLines(t *testing.T) {
	t.Parallel()
	log, written := newLog()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	o := &outage{log: log, complaint: storage.Complaint, now: func() time.Time { return now }}
	for range 2 {
		o.worked()
		for range 1000 {
			o.failed(errors.New("refused"))
		}
		now = now.Add(time.Hour)
		o.worked()
		o.worked()
	}
	if got := written.holding("the database does not answer"); len(got) != 2 || !strings.Contains(got[0], "error=refused") {
		t.Errorf("got %q", got)
	}
	if got := written.holding("the database answers again"); len(got) != 2 || !strings.Contains(got[0], "away=1h0m0s") {
		t.Errorf("got %q", got)
	}
}

// An outage in which no lease can have run out holds nobody up: a database that
// fails now and then would stop all work.
func TestAShortOutageIsOverAtOnce(t *testing.T) {
	t.Parallel()
	log, _ := newLog()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	o := &outage{log: log, complaint: storage.Complaint, harmless: 5 * time.Second, now: func() time.Time { return now }}
	for _, c := range []struct {
		answers, fails time.Duration // what passes before each
		over           bool
	}{
		{time.Second, 250 * time.Millisecond, true},
		{time.Second, 4 * time.Second, true},
		{time.Second, 5 * time.Second, false},
	} {
		now = now.Add(c.answers)
		o.worked()
		now = now.Add(c.fails) // the failure took all that time
		o.failed(errors.New("timeout"))
		if o.over(0) {
			t.Error("over while it lasts")
		}
		o.worked()
		if got := o.over(2 * time.Second); got != c.over {
			t.Errorf("after %v: over is %v, want %v", c.fails, got, c.over)
		}
	}
	if now = now.Add(2 * time.Second); !o.over(2 * time.Second) {
		t.Error("not over after its pause")
	}
}

// A disk that is all but full takes a small write now and then: it is said once that the
// database is away, and once that it is back for good, while work goes on whenever it can.
func TestAnOutageThatFlickersIsTwoLines(t *testing.T) {
	t.Parallel()
	log, written := newLog()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	o := &outage{
		log: log, harmless: 5 * time.Second, confirm: 5 * time.Second, now: func() time.Time { return now },
		complaint: func(error) string { return "is full" },
	}
	o.worked()
	for range 20 {
		o.failed(errors.New("no room"))
		if o.over(0) {
			t.Error("over while it lasts")
		}
		now = now.Add(time.Second)
		o.worked()
		if !o.over(2 * time.Second) {
			t.Error("a short outage holds work up after its end")
		}
		now = now.Add(4 * time.Second)
		o.worked()
	}
	if back := written.holding("answers again"); len(back) > 0 {
		t.Errorf("said too early: %q", back)
	}
	now = now.Add(time.Second)
	o.worked()
	if all := written.holding("level="); len(all) != 2 || !strings.Contains(all[0], "is full") || !strings.Contains(all[1], "away=1m36s") {
		t.Errorf("got %q", all)
	}
}

func TestOutageOfManyAtOnce(t *testing.T) {
	t.Parallel()
	log, written := newLog()
	o := &outage{log: log, complaint: storage.Complaint, now: time.Now}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { o.failed(errors.New("refused")) })
	}
	all.Wait()
	if got := written.holding("does not answer"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}
