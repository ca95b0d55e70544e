package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
)

// What a status is colored with.
const (
	green     = "\x1b[32m"
	red       = "\x1b[31m"
	yellow    = "\x1b[33m"
	uncolored = "\x1b[0m"
)

// progress tells a person how something goes on: in a line that is rewritten on a terminal, in a line for each
// change elsewhere.
type progress struct {
	out     io.Writer
	live    bool // lines can be rewritten
	colored bool
	stopped chan struct{}

	mu     sync.Mutex
	state  string        // "" before the first
	detail func() string // what goes with the state now
	drawn  string        // the line as it is on the terminal
}

func newProgress(out io.Writer, env environment) *progress {
	live := isTerminal(out) && env["TERM"] != "dumb"
	return &progress{out: out, live: live, colored: live && env["NO_COLOR"] == "", stopped: make(chan struct{})}
}

// say prints a line that stays.
func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn != "" {
		text, p.drawn = "\r"+clearLine+text, ""
	}
	fmt.Fprintln(p.out, text)
	p.draw()
}

// show tells of a state and its detail. On a terminal the detail is asked for every second, elsewhere when the
// state is another than before.
func (p *progress) show(state string, detail func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.state
	p.state, p.detail = state, detail
	if !p.live && state != before {
		fmt.Fprintln(p.out, state+"  "+detail())
	}
	if p.live && before == "" {
		go p.redraw()
	}
	p.draw()
}

// redraw rewrites the line every second until stop, for the time in it.
func (p *progress) redraw() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		case <-p.stopped:
			return
		}
	}
}

// draw rewrites the line, cut to what fits. It needs the lock.
func (p *progress) draw() {
	if !p.live || p.state == "" {
		return
	}
	width, _ := terminalSize(p.out)
	detail := []rune("  " + p.detail())
	detail = detail[:max(0, min(len(detail), width-1-len(p.state)))]
	if line := p.color(yellow, p.state) + string(detail); line != p.drawn {
		p.drawn = line
		fmt.Fprint(p.out, "\r"+clearLine+line)
	}
}

// stop clears the line that was rewritten.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live && p.state != "" {
		close(p.stopped)
		fmt.Fprint(p.out, "\r"+clearLine)
	}
	p.state, p.drawn = "", ""
}

// color colors a text where that is wanted.
func (p *progress) color(color, text string) string {
	if !p.colored {
		return text
	}
	return color + text + uncolored
}

// maxPlain is how many characters of a text from outside are shown.
const maxPlain = 500

// plain is a text from outside on one line, without what could steer a terminal.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r):
			return ' '
		case unicode.Is(unicode.Cf, r): // such as those that turn the direction of writing
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > maxPlain {
		return string(runes[:maxPlain]) + "..."
	}
	return text
}

// roughly is a duration as precisely as a person wants it.
func roughly(d time.Duration) string {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
