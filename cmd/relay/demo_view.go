package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"oprelay/notifier/slacktest"
)

// What the table is drawn with. It stands on the terminal's alternate screen, which
// has no lines above it: a terminal that is too low, or resized, keeps no copies.
const (
	alternateScreen = "\x1b[?1049h"
	mainScreen      = "\x1b[?1049l"
	topLeft         = "\x1b[H"
	clearLine       = "\x1b[K"
	clearBelow      = "\x1b[J"
)

// titleWidth is that of the longest title.
const titleWidth = 14

// demoView shows the demo: a table that is redrawn on a terminal, a line for each
// change in a pipe.
type demoView struct {
	out     io.Writer
	logs    *heldLog
	live    bool
	opening func(width int) string
	table   string            // as drawn last
	printed map[string]string // the last line of each watch, in a pipe
}

func newDemoView(out, logs io.Writer) *demoView {
	return &demoView{out: out, logs: &heldLog{out: logs}, live: isTerminal(out), printed: map[string]string{}}
}

// width is -1 in a pipe, where lines are as long as they are.
func (v *demoView) width() int {
	if !v.live {
		return -1
	}
	width, _ := terminalSize(v.out)
	return width
}

func (v *demoView) begin(opening func(width int) string) {
	v.opening = opening
	if v.live {
		v.logs.hold()
		fmt.Fprint(v.out, alternateScreen)
		return
	}
	fmt.Fprintln(v.out, opening(v.width()))
}

// show shows how far the watches are.
func (v *demoView) show(since time.Duration, rows []row) {
	if !v.live {
		v.printChanges(since, rows)
		return
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "OPERATION\tWATCH\tPOLLS\tUPSTREAM\tWEBHOOK\tFLAKY\tSLACK")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.title, r.watch, r.polls, r.upstream, r.webhook, r.flaky, r.slack)
	}
	_ = w.Flush()
	v.table = b.String()
	width, height := terminalSize(v.out)
	lines := cut(fmt.Sprintf("%s\n%s%4.1f s", v.opening(width), v.table, since.Seconds()), width)
	lines = lines[max(0, len(lines)-height):]
	fmt.Fprint(v.out, topLeft+clearLine+strings.Join(lines, "\n"+clearLine)+clearBelow)
}

// cut returns the text's lines without what is too much for the width.
func cut(text string, width int) []string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = line[:min(len(line), width)]
	}
	return lines
}

// printChanges prints a line for each watch that has moved on.
func (v *demoView) printChanges(since time.Duration, rows []row) {
	for _, r := range rows {
		line := fmt.Sprintf("%-*s  %-12s  upstream: %-9s  webhook: %-8s  flaky: %-10s  Slack: %s",
			titleWidth, r.title, r.watch, r.upstream, r.webhook, r.flaky, r.slack)
		if v.printed[r.title] != line {
			v.printed[r.title] = line
			fmt.Fprintf(v.out, "%5.1f s  %s\n", since.Seconds(), line)
		}
	}
}

// end leaves the table as it was last, and shows what was logged.
func (v *demoView) end() {
	if v.live {
		fmt.Fprint(v.out, topLeft+clearBelow+mainScreen, v.opening(v.width()), "\n", strings.Join(cut(v.table, v.width()), "\n"))
	}
	v.logs.release()
}

func (v *demoView) summary(checks []check) {
	fmt.Fprintf(v.out, "\n%s\n\n", fill("What arrived, as the receivers and Slack have it:", "", v.width()))
	for _, c := range checks {
		mark := "  ok       "
		if !c.held {
			mark = "  MISSING  "
		}
		fmt.Fprintln(v.out, hang(mark, c.what, v.width()))
	}
	fmt.Fprintf(v.out, "\n%d of %d checks hold.\n", len(checks)-failures(checks), len(checks))
}

// invitation is what somebody needs to use the demo's relay.
type invitation struct {
	url, key, watchID, operationID string
}

func (v *demoView) kept(to invitation) {
	fmt.Fprintf(v.out, `
The relay keeps running until you interrupt it. Its console, and the API key to
sign in with:

  %[1]s/
  %[2]s

In another terminal (its API is described at %[1]s/docs):

  export RELAY_URL=%[1]s
  export RELAY_API_KEY=%[2]s
  relay listen
  relay wait %[3]s
  relay watch %[4]s --wait \
    --account %[5]s
`, to.url, to.key, to.watchID, to.operationID, demoAccount)
}

// opening says what is about to be shown.
func (d *demo) opening(width int) string {
	lines := []string{fill("One relay, on SQLite and an embedded Redis, watches five operations:", "", width), ""}
	for _, part := range []struct{ where, what string }{
		{"http://" + d.relay.addr, "the relay's API"},
		{d.url, "stand-ins for what it talks to:"},
		{"  " + upstreamPath, "Cloudflare"},
		{"  " + githubPath, "GitHub"},
		{"  /steady", "a receiver that accepts at once"},
		{"  /flaky", "a receiver that refuses each event twice"},
		{"  " + slacktest.APIPath, "Slack"},
	} {
		lines = append(lines, hang(fmt.Sprintf("  %-22s  ", part.where), part.what, width))
	}
	lines = append(lines, "")
	for _, s := range d.scenarios {
		lines = append(lines, hang(fmt.Sprintf("  %-*s  ", titleWidth, s.title), s.story, width))
	}
	return strings.Join(lines, "\n") + "\n"
}

// hang puts a text behind its label, and its further lines below it.
func hang(label, text string, width int) string {
	return label + strings.TrimSpace(fill(text, strings.Repeat(" ", len(label)), width))
}

// heldLog keeps what is logged while a table is on the screen.
type heldLog struct {
	out io.Writer

	mu   sync.Mutex
	held *bytes.Buffer // nil to pass all on
}

func (l *heldLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		return l.held.Write(p)
	}
	return l.out.Write(p)
}

func (l *heldLog) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = new(bytes.Buffer)
}

func (l *heldLog) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		_, _ = l.held.WriteTo(l.out)
	}
	l.held = nil
}
