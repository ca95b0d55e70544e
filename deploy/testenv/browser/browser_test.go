package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"oprelay/deploy/testenv/browser"
)

// serve is the address of a page with the content, under a policy that allows no inline script.
func serve(t *testing.T, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; img-src 'self' data:; style-src 'unsafe-inline'")
		switch r.URL.Path {
		case "/script.js":
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprint(w, `document.querySelector('#scripted').textContent = 'scripts run'`)
		case "/form":
			http.Redirect(w, r, "/done?"+r.FormValue("q"), http.StatusSeeOther)
		case "/done":
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprint(w, "<title>t</title><h1>"+r.URL.RawQuery+"</h1>")
		default:
			fmt.Fprint(w, "<!doctype html><html lang=en><title>t</title><link rel=icon href=data:,><main><h1>page</h1>"+body+"</main>")
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestFormAndKeys(t *testing.T) {
	t.Parallel()
	for _, scripts := range []bool{true, false} {
		t.Run(fmt.Sprint("scripts ", scripts), func(t *testing.T) {
			t.Parallel()
			url := serve(t, `<p id=scripted>scripts do not run</p><script src=/script.js></script>
				<form action=/form><label>q <input name=q value=old></label><button>Go</button></form>`)
			b := browser.Open(t)
			if !scripts {
				b.WithoutScripts()
			}
			if status := b.Visit(url); status != http.StatusOK {
				t.Errorf("visited: %d", status)
			}
			if got := b.Text("#scripted"); (got == "scripts run") != scripts {
				t.Error(got)
			}
			b.Type("input", "new")
			if status := b.Follow("button"); status != http.StatusTeapot || b.Text("h1") != "new" {
				t.Errorf("clicked: %d %s", status, b.Text("h1"))
			}
			b.Visit(url)
			b.Press(browser.TabKey + "x")
			if status := b.FollowKey(browser.EnterKey); status != http.StatusTeapot || b.Text("h1") != "x" {
				t.Errorf("pressed: %d %s", status, b.Text("h1"))
			}
			if said := b.Messages(); len(said) != 2 || !strings.Contains(said[0], "418") {
				t.Errorf("the console says %q, want an error for each teapot", said)
			}
		})
	}
}

func TestWhatIsWrongWithAPage(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	b.Visit(serve(t, `<script>alert(1)</script><img src=https://example.com/x.png>
		<style>p { width: 500px; color: light-dark(#111, #eee); background: light-dark(#fff, #ddd) } :root { color-scheme: light dark }</style><p>wide`))
	said := b.Messages()
	for _, about := range []string{"script-src", "img-src"} {
		if !slices.ContainsFunc(said, func(m string) bool { return strings.Contains(m, about) }) {
			t.Errorf("no message about %s among %q", about, said)
		}
	}
	if faults := b.Faults(); len(faults) != 1 || !strings.Contains(faults[0], "image-alt") {
		t.Errorf("faults: %q", faults)
	}
	if wide := b.Overflow(); wide != "" {
		t.Errorf("1280 pixels are too few: %s", wide)
	}
	b.Show(browser.Screen{Width: 390, Dark: true})
	if faults := b.Faults(); !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, "color-contrast") }) {
		t.Errorf("faults in the dark: %q", faults)
	}
	if wide := b.Overflow(); !strings.Contains(wide, "<p>") {
		t.Errorf("wider than 390 pixels: %q", wide)
	}
	if png := b.Screenshot(); !strings.HasPrefix(string(png), "\x89PNG") {
		t.Errorf("a screenshot of %d bytes", len(png))
	}
}

// Each tab has its own cookies, and what is not there is not waited for without end.
func TestTabsAreApart(t *testing.T) {
	t.Parallel()
	url := serve(t, "")
	first, second := browser.Open(t), browser.Open(t)
	first.Visit(url)
	second.Visit(url)
	browser.Value[any](first, "document.cookie = 'a=b', 0")
	if has := browser.Value[string](first, "document.cookie"); has != "a=b" {
		t.Errorf("the first tab has the cookies %q", has)
	}
	if has := browser.Value[string](second, "document.cookie"); has != "" {
		t.Errorf("the second tab has the cookies %q", has)
	}
}
