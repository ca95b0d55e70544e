package deliver

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"oprelay/deploy/testenv"
)

func TestOwnTroubles(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	said := testenv.NewOutput()
	own := &ownTroubles{
		log: slog.New(slog.NewTextHandler(said, nil)), now: func() time.Time { return now }, least: ownPauseLeast, most: ownPauseMost, all: map[string]*ownTrouble{},
	}
	began := now
	tries := 0
	for now.Sub(began) < ownMost {
		pause, believed := own.met("no files")
		if !believed || pause < ownPauseLeast || pause > ownPauseMost {
			t.Fatalf("after %v: %v, believed %v", now.Sub(began), pause, believed)
		}
		if lasted := now.Sub(began); lasted >= 2*ownPauseMost && pause != ownPauseMost {
			t.Fatalf("after %v it is tried again in %v", lasted, pause)
		}
		now = now.Add(pause)
		tries++
	}
	if most := int(ownMost/ownPauseMost) + 10; tries > most {
		t.Errorf("%d tries in %v, want at most %d", tries, ownMost, most)
	}
	if _, believed := own.met("no files"); believed {
		t.Errorf("believed after %v", now.Sub(began))
	}
	if _, believed := own.met("no resolver"); !believed {
		t.Error("what has only begun is not believed")
	}
	own.sent()
	if lines := strings.Split(strings.TrimSpace(said.String()), "\n"); len(lines) != 2 ||
		!strings.Contains(lines[0], "no files") || !strings.Contains(lines[1], "no resolver") {
		t.Errorf("said %q", lines)
	}

	now = now.Add(ownQuiet + time.Second)
	own.sent()
	if again := strings.Count(said.String(), "can send again"); again != 2 {
		t.Errorf("said %q", said)
	}
	if pause, believed := own.met("no files"); pause != ownPauseLeast || !believed {
		t.Errorf("when it comes back: %v, %v", pause, believed)
	}
}
