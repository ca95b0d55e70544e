package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// view shows the demo: a table that is redrawn on a terminal (of 80 columns or
// more), a line for each change in a pipe.
type view struct {
	out   io.Writer
	live  bool
	drawn int // lines of the table on the screen
	last  map[string]string
}

func newView(out io.Writer) *view {
	return &view{out: out, live: isTerminal(out), last: map[string]string{}}
}

func (v *view) opening(relay *process, s *stage, watched []*scene) {
	fmt.Fprintf(v.out, `One relay, on SQLite and an embedded Redis, watches four operations:

  upstream   %s   (simulated Cloudflare)
  relay API  http://%s
  receivers  %s (accepts), %s (refuses each event twice)
  Slack      %s (stand-in)

`, s.upstreamURL, relay.addr, s.steadyURL, s.flakyURL, s.slackAPI)
	for _, scene := range watched {
		fmt.Fprintf(v.out, "  %-*s  %s\n", titleWidth, scene.title, scene.story)
	}
	fmt.Fprintln(v.out)
}

// titleWidth is that of the longest title.
const titleWidth = 15

// show draws how far the scenes are.
func (v *view) show(since time.Duration, rows []row) {
	if !v.live {
		v.print(since, rows)
		return
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "OPERATION\tUPSTREAM\tPOLLS\tWATCH\tWEBHOOK\tFLAKY\tSLACK")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.title, dash(r.seen), r.polls, r.status, r.webhook, r.flaky, r.slack)
	}
	_ = w.Flush()
	if v.drawn > 0 {
		fmt.Fprintf(v.out, "\x1b[%dA", v.drawn)
	}
	v.drawn = strings.Count(b.String(), "\n") + 1
	for line := range strings.Lines(b.String()) {
		fmt.Fprint(v.out, "\x1b[2K", line)
	}
	fmt.Fprintf(v.out, "\x1b[2K%4.1f s\n", since.Seconds())
}

// print writes a line for each scene that has moved on.
func (v *view) print(since time.Duration, rows []row) {
	for _, r := range rows {
		line := fmt.Sprintf("%-*s  %-12s  upstream: %-9s  webhook: %-8s  flaky: %-10s  Slack: %s",
			titleWidth, r.title, r.status, dash(r.seen), r.webhook, r.flaky, r.slack)
		if v.last[r.watchID] != line {
			v.last[r.watchID] = line
			fmt.Fprintf(v.out, "%5.1f s  %s\n", since.Seconds(), line)
		}
	}
}

func (v *view) summary(r *report) {
	fmt.Fprintln(v.out, "\nWhat arrived, as the receivers and Slack have it:")
	fmt.Fprintln(v.out)
	for _, c := range r.checks {
		mark := "ok      "
		if !c.held {
			mark = "MISSING "
		}
		fmt.Fprintln(v.out, " ", mark, c.what)
	}
	fmt.Fprintf(v.out, "\n%d of %d checks hold.\n", len(r.checks)-r.bad(), len(r.checks))
}

func (v *view) kept(relay *process, key string) {
	fmt.Fprintf(v.out, `
The relay keeps running until you interrupt it.

  API docs  http://%[1]s/docs
  API key   %[2]s

  curl -H 'Authorization: Bearer %[2]s' http://%[1]s/v1/watches
`, relay.addr, key)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
