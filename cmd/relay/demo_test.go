package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// The demo's output, its exit code, and that it leaves nothing behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	temporary := t.TempDir()
	r := spawn(t, t.TempDir(), environment{"TMPDIR": temporary}, "demo")
	if code := r.Wait(time.Minute); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	out := r.Stdout.String()
	mention(t, out, "operation.completed", `operation.failed ("This list is at the maximum number of items")`,
		"website deploy: one webhook, operation.completed", "website deploy: one Slack message", "operation.expired (deadline)", "operation.unobservable (not_found)", "signature verified",
		"refused it twice", "updated in place", "checks hold")
	if strings.Contains(out, "\x1b") || strings.Contains(out, "MISSING") {
		t.Errorf("in a pipe the demo prints\n%s", out)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("the demo leaves %v behind (%v)", left, err)
	}
}

// On a terminal the demo rewrites one table, also while the terminal is made smaller than
// the table and larger again. In the end all is there once.
func TestDemoOnATerminal(t *testing.T) {
	t.Parallel()
	screen := newTerminal(t, 80, 24)
	ended := make(chan int)
	go func() { ended <- run(t.Context(), []string{"demo"}, nil, screen.tty, io.Discard) }()
	for _, size := range [][2]int{{80, 24}, {40, 5}, {40, 24}, {120, 3}, {80, 24}} {
		screen.resize(size[0], size[1])
		screen.wipe()
		eventually(t, startLimit, "the table is drawn again", func() bool { return strings.Contains(screen.text(), "mistyped") })
	}
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	screen.drain()
	checkOnce(t, screen.text(), "watches five", "OPERATION", "mistyped id     unobservable", "What arrived", "checks hold")
}

// The demo leaves one table and no line that wraps, however wide and high the terminal
// is, and also where the terminal has no alternate screen.
func TestDemoFitsTheTerminal(t *testing.T) {
	t.Parallel()
	longest := []row{
		{"block networks", "completed", 10, "completed", "verified", "refused 2x", "edited 3x"},
		{"mistyped id", "unobservable", 10, "-", "verified", "-", "-"},
	}
	for _, width := range []int{40, 53, 80, 81, 120, 200} {
		for _, height := range []int{2, 5, 24, 60} {
			for _, alternate := range []bool{true, false} {
				screen := newTerminal(t, width, height)
				screen.alternate = alternate
				d := &demo{
					standIns: &standIns{url: "http://127.0.0.1:65535"}, relay: &process{addr: "127.0.0.1:65531"}, scenarios: scenarios(),
				}
				v := newDemoView(screen.tty, io.Discard)
				v.begin(d.opening)
				for i := range 20 {
					v.show(time.Duration(i)*time.Second, longest[:1+i%2])
				}
				v.end()
				v.summary([]check{
					{"block networks: the flaky receiver refused it twice and accepted the same event at the third attempt", true},
					{`import items: one webhook, operation.failed ("This list is at the maximum number of items"), signature verified`, false},
				})
				if width >= 80 {
					v.kept(invitation{
						"http://127.0.0.1:65531", "relay_" + strings.Repeat("x", 43),
						"watch_01jd8p5kzve6wbdq8rfg0m3c7x", "4da8780eeb215e6cb7f48dd981c4ea02",
					})
				}
				screen.drain()
				checkOnce(t, screen.text(), "OPERATION", "http://127.0.0.1:65531  ", "completes after", "What arrived", "1 of 2 checks hold")
				if screen.wraps > 0 {
					t.Errorf("%d lines wrap in %d columns:\n%s", screen.wraps, width, screen.text())
				}
				if width >= 80 {
					mention(t, screen.text(), "edited 3x")
				}
			}
		}
	}
}

// What is logged while the table is on the screen is shown below it.
func TestDemoKeepsTheLogOffTheTable(t *testing.T) {
	t.Parallel()
	screen := newTerminal(t, 80, 24)
	v := newDemoView(screen.tty, screen.tty)
	v.begin(func(int) string { return "opening" })
	fmt.Fprintln(v.logs, "something failed")
	v.show(time.Second, []row{{title: "a"}})
	v.end()
	fmt.Fprintln(v.logs, "and again")
	screen.drain()
	checkOnce(t, screen.text(), "OPERATION", "something failed\nand again")
}

func checkOnce(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if n := strings.Count(text, part); n != 1 {
			t.Errorf("%q is there %d times, want once, in\n%s", part, n, text)
		}
	}
}
