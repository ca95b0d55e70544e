// Package loglimit logs what may happen thousands of times a second: some lines, and counts
// of the others.
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"oprelay/storage"
)

const (
	// logsPerSecond is up to how many lines of one sort a second has; the others are counted.
	logsPerSecond = 10
	// countsEvery is how long after the first line that was left out all such are told of.
	countsEvery = time.Minute
)

// Limit lets one sort of line be logged up to logsPerSecond, and logs one line a minute
// with the counts of the others.
type Limit struct {
	log   *slog.Logger
	level slog.Level
	// counts is the message of the line with counts, by the name under which it has them.
	counts, by string

	mu      sync.Mutex
	second  time.Time // when the second began
	logged  int       // in it
	leftOut map[string]int
	timer   *time.Timer // nil while nothing is left out
}

// New makes a limit: counts is the message of the line with counts, and by the name under
// which it has them by the kind of line.
func New(log *slog.Logger, level slog.Level, counts, by string) *Limit {
	return &Limit{log: log, level: level, counts: counts, by: by, leftOut: map[string]int{}}
}

// NewEnded logs watches that have ended.
func NewEnded(log *slog.Logger) *Limit {
	return New(log, slog.LevelInfo, "more watches have ended", "by_result")
}

// Ended is for [storage.Store.SetOnEnded].
func (l *Limit) Ended(watches []storage.EndedWatch) {
	for i := range watches {
		w := &watches[i]
		if !l.Pass(w.Status) {
			continue
		}
		about := []any{"watch_id", w.ID, "result", w.Status, "operation_id", w.OperationID, "polls", w.Polls, "duration", w.Took}
		if w.Reason != "" {
			about = append(about, "reason", w.Reason)
		}
		l.log.Info("a watch has ended", about...)
	}
}

// Pass says whether a line may be logged; if not, it is counted as one of its kind.
func (l *Limit) Pass(kind string) bool {
	if !l.log.Enabled(context.Background(), l.level) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.second) >= time.Second {
		l.second, l.logged = now, 0
	}
	if l.logged < logsPerSecond {
		l.logged++
		return true
	}
	l.leftOut[kind]++
	if l.timer == nil {
		l.timer = time.AfterFunc(countsEvery, l.Flush)
	}
	return false
}

// Flush tells now what was left out so far.
func (l *Limit) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer == nil {
		return
	}
	l.timer.Stop()
	count := 0
	for _, n := range l.leftOut {
		count += n
	}
	l.log.Log(context.Background(), l.level, l.counts, "count", count, l.by, l.leftOut)
	l.leftOut, l.timer = map[string]int{}, nil
}
