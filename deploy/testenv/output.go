package testenv

import (
	"context"
	"strings"
	"sync"
)

// Output is what a program has printed so far, and lets a test wait for a line
// of it. It is safe for concurrent use.
type Output struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed and replaced at every write
}

// NewOutput is one that nothing was printed to yet.
func NewOutput() *Output { return &Output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

// String is everything so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Find is the first whole line that contains the text.
func (o *Output) Find(text string) (line string, ok bool) {
	for line := range strings.Lines(o.String()) {
		if strings.Contains(line, text) && strings.HasSuffix(line, "\n") {
			return strings.TrimSpace(line), true
		}
	}
	return "", false
}

// Wait is Find as soon as there is such a line; false when ctx or the program
// ends without.
func (o *Output) Wait(ctx context.Context, text string, ended <-chan struct{}) (line string, ok bool) {
	for {
		o.mu.Lock()
		changed := o.changed
		o.mu.Unlock()
		if line, ok := o.Find(text); ok {
			return line, true
		}
		select {
		case <-changed:
		case <-ended:
			return o.Find(text)
		case <-ctx.Done():
			return "", false
		}
	}
}
