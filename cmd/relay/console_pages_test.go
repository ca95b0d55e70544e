package main

import (
	"cmp"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"oprelay/deploy/testenv/browser"
)

// screenshots is where to keep a picture of each page on each screen; .bin is ignored by git.
var screenshots = flag.String("screenshots", "", "a folder for pictures of the console's pages, such as ../../.bin/screenshots")

// shownPage is a page to look at.
type shownPage struct {
	name, path string
	status     int // 200 if 0
}

// Every page can be used by everybody, on every screen: nothing serious that axe-core finds, nothing that scrolls
// sideways, nothing in the browser's console.
func TestConsolePages(t *testing.T) {
	t.Parallel()
	desk := newDesk(t)
	for name, pages := range map[string][]shownPage{
		"lists": {
			{name: "home", path: "/"},
			{name: "watches", path: "/watches"},
			{name: "watches-filtered", path: "/watches?status=failed"},
			{name: "watches-wrong", path: "/watches?status=failed&account_id=x", status: http.StatusUnprocessableEntity},
			{name: "deliveries", path: "/deliveries"},
			{name: "events", path: "/events"},
			{name: "destinations", path: "/destinations"},
			{name: "credentials", path: "/credentials"},
			{name: "sources", path: "/sources"},
			{name: "keys", path: "/keys"},
			{name: "nothing", path: "/nothing", status: http.StatusNotFound},
		},
		"single things": {
			{name: "watch-watching", path: "/watches/" + desk.watching},
			{name: "watch-completed", path: "/watches/" + desk.ended},
			{name: "watch-run", path: "/watches/" + desk.run},
			{name: "watch-failed", path: "/watches/" + desk.failed},
			{name: "delivery", path: "/deliveries/" + desk.delivered},
			{name: "delivery-failed", path: "/deliveries/" + desk.undeliverable},
			{name: "event", path: "/events/" + *desk.look(t, desk.failed).EventID},
			{name: "destination", path: "/destinations/" + desk.good},
			{name: "destination-failing", path: "/destinations/" + desk.broken},
			{name: "destination-gone", path: "/destinations/" + desk.gone},
			{name: "recover", path: "/destinations/" + desk.broken + "/recover"},
			{name: "credential", path: "/credentials/" + desk.refused},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := browser.Open(t)
			desk.signIn(t, b, desk.key, "/keys")
			desk.show(t, b, pages)
		})
	}
	t.Run("signed out", func(t *testing.T) {
		t.Parallel()
		desk.show(t, browser.Open(t), []shownPage{{name: "login", path: "/login?next=/watches"}, {name: "docs", path: "/docs"}})
	})
}

// The same holds of a relay in which nothing has happened yet.
func TestConsolePagesEmpty(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	b := browser.Open(t)
	s.signIn(t, b, s.key, "/keys")
	s.show(t, b, []shownPage{
		{name: "home-empty", path: "/"},
		{name: "watches-empty", path: "/watches"},
		{name: "deliveries-empty", path: "/deliveries"},
		{name: "events-empty", path: "/events"},
		{name: "destinations-empty", path: "/destinations"},
		{name: "credentials-empty", path: "/credentials"},
	})
}

// show looks at pages on each screen. All that axe-core knows is asked once, on other screens what may differ there.
func (s *system) show(t *testing.T, b *browser.Tab, pages []shownPage) {
	t.Helper()
	for _, page := range pages {
		b.Show(browser.Screen{Width: 1280})
		if status := b.Visit(s.page(page.path)); status != cmp.Or(page.status, http.StatusOK) {
			t.Errorf("%s: status %d", page.name, status)
		}
		if titles := browser.Value[int](b, "document.querySelectorAll('h1').length"); titles != 1 {
			t.Errorf("%s: %d titles, want one", page.name, titles)
		}
		for _, screen := range []struct {
			browser.Screen

			rules []string
		}{
			{Screen: browser.Screen{Width: 1280}},
			{browser.Screen{Width: 1280, Dark: true}, []string{"color-contrast"}},
			{browser.Screen{Width: 390}, []string{"scrollable-region-focusable", "target-size"}},
		} {
			b.Show(screen.Screen)
			for _, fault := range b.Faults(screen.rules...) {
				t.Errorf("%s, %+v: %s", page.name, screen.Screen, fault)
			}
			if wide := b.Overflow(); wide != "" {
				t.Errorf("%s, %+v, scrolls sideways: %s", page.name, screen.Screen, wide)
			}
		}
		takePictures(t, b, page.name)
		if messages := b.Messages(); page.status == 0 && len(messages) > 0 { // the browser complains of other statuses
			t.Errorf("%s: the browser's console says %q", page.name, messages)
		}
	}
}

// takePictures keeps a picture of the page on each screen, if pictures are asked for.
func takePictures(t *testing.T, b *browser.Tab, name string) {
	t.Helper()
	if *screenshots == "" {
		return
	}
	for scheme, dark := range map[string]bool{"light": false, "dark": true} {
		for _, width := range []int{1280, 390} {
			b.Show(browser.Screen{Width: width, Dark: dark})
			keep(t, filepath.Join(*screenshots, fmt.Sprintf("%s.%d.%s.png", name, width, scheme)), b.Screenshot())
		}
	}
}

func keep(t *testing.T, path string, picture []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, picture, 0o600); err != nil {
		t.Fatal(err)
	}
}
