package main

import (
	"context"
	"strings"
	"sync"
)

// lines collects what a process prints and lets a test wait for a line of it.
type lines struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed and replaced at every write
}

func newLines() *lines { return &lines{changed: make(chan struct{})} }

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(p), nil
}

// String is everything so far.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// find is the first whole line that contains the text.
func (l *lines) find(text string) (line string, ok bool) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) && strings.HasSuffix(line, "\n") {
			return strings.TrimSpace(line), true
		}
	}
	return "", false
}

// wait is find as soon as there is such a line; false when ctx or the process
// ends without.
func (l *lines) wait(ctx context.Context, text string, ended <-chan struct{}) (line string, ok bool) {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if line, ok := l.find(text); ok {
			return line, true
		}
		select {
		case <-changed:
		case <-ended:
			return l.find(text)
		case <-ctx.Done():
			return "", false
		}
	}
}
