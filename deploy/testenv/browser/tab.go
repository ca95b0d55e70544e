package browser

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// limit is how long anything in the browser may take. A busy machine is slow.
const limit = time.Minute

// Keys that no character stands for, for Press.
const (
	TabKey    = kb.Tab
	EnterKey  = kb.Enter
	EscapeKey = kb.Escape
)

// Tab shows a page, with a profile of its own: nobody else's cookies. Its methods end
// the test if the browser does not do as told. Selectors are CSS's; of the elements
// that match the first is meant.
type Tab struct {
	t   testing.TB
	ctx context.Context //nolint:containedctx // chromedp's handle of a tab is a context

	mu       sync.Mutex
	messages []string
	mark     chan struct{}
}

// Open opens a tab that is closed when the test ends. The test fails for each error
// and warning that is in the browser's console by then.
func Open(t testing.TB) *Tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(shared.use(t), chromedp.WithNewBrowserContext())
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil { // without a limit of its own, which would be the tab's
		t.Fatal(err)
	}
	b := &Tab{t: t, ctx: ctx, mark: make(chan struct{})}
	b.Show(Screen{Width: 1280})
	b.listen()
	t.Cleanup(func() {
		for _, message := range b.Messages() {
			t.Errorf("the browser's console says: %s", message)
		}
	})
	return b
}

// Screen is what a page is shown on.
type Screen struct {
	Width int
	Dark  bool
}

// Show shows the page, and what is visited later, on another screen.
func (b *Tab) Show(s Screen) {
	b.t.Helper()
	scheme := "light"
	if s.Dark {
		scheme = "dark"
	}
	b.do(chromedp.EmulateViewport(int64(s.Width), 800), tell(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}))
}

// WithoutScripts has pages that are visited from now on run no script.
func (b *Tab) WithoutScripts() {
	b.t.Helper()
	b.do(tell(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
}

// Visit goes to the address and returns the answer's status once the page is loaded.
func (b *Tab) Visit(url string) (status int) {
	b.t.Helper()
	return b.load(chromedp.Navigate(url))
}

// Follow clicks what leads to another page and returns the status of that page's
// answer once it is loaded.
func (b *Tab) Follow(selector string) (status int) {
	b.t.Helper()
	return b.load(chromedp.Click(chromedp.CSS(selector)))
}

// FollowKey presses a key that leads to another page.
func (b *Tab) FollowKey(key string) (status int) {
	b.t.Helper()
	return b.load(press(key))
}

func (b *Tab) load(step chromedp.Action[chromedp.Void]) (status int) {
	b.t.Helper()
	response := run(b, func(ctx context.Context) (*network.Response, error) { return chromedp.RunResponse(ctx, step) })
	return int(response.Status)
}

// Click clicks.
func (b *Tab) Click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// Type replaces the field's content as a person would: select all, then type.
func (b *Tab) Type(selector, text string) {
	b.t.Helper()
	b.do(chromedp.Clear(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Choose chooses the option of a select by its value.
func (b *Tab) Choose(selector, value string) {
	b.t.Helper()
	b.do(chromedp.SetValue(chromedp.CSS(selector), value))
}

// Press presses keys, one for each character, where the focus is.
func (b *Tab) Press(keys string) {
	b.t.Helper()
	b.do(press(keys))
}

// press is chromedp.KeyEvent, but a key that a page takes for itself does not write its character as well.
func press(keys string) chromedp.Action[chromedp.Void] {
	var steps []chromedp.Action[chromedp.Void]
	for _, key := range keys {
		events := kb.Encode(key)
		down, up := *events[0], *events[len(events)-1]
		if len(events) > 2 { // with a character in between
			down.Type, down.Text, down.UnmodifiedText = input.DispatchKeyEventTypeKeyDown, events[1].Text, events[1].UnmodifiedText
		}
		steps = append(steps, tell(input.DispatchKeyEvent, down), tell(input.DispatchKeyEvent, up))
	}
	return chromedp.Steps(steps...)
}

// Await waits until an element that matches is to be seen.
func (b *Tab) Await(selector string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS(selector)))
}

// AwaitText waits until the element says so.
func (b *Tab) AwaitText(selector, text string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	last := ""
	for {
		said, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
		if err != nil {
			b.t.Fatalf("%s does not say %q (%v), but %q", selector, text, err, last)
		}
		if last = said; strings.Contains(said, text) {
			return
		}
	}
}

// Text is what a person reads in the element, once it is to be seen.
func (b *Tab) Text(selector string) string {
	b.t.Helper()
	return run(b, func(ctx context.Context) (string, error) {
		return chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
	})
}

// URL is where the page is.
func (b *Tab) URL() string {
	b.t.Helper()
	return run(b, func(ctx context.Context) (string, error) { return chromedp.Run(ctx, chromedp.Location()) })
}

// Value is the value of a JavaScript expression; a promise's, once it is kept.
func Value[T any](b *Tab, expression string) T {
	b.t.Helper()
	return run(b, func(ctx context.Context) (T, error) {
		return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	})
}

// Screenshot is the whole page as a PNG, beyond what the window shows.
func (b *Tab) Screenshot() []byte {
	b.t.Helper()
	return run(b, func(ctx context.Context) ([]byte, error) { return chromedp.Run(ctx, chromedp.FullScreenshot(100)) })
}

// markText is what the tests write to the console to know that they have read up to there.
const markText = "all read"

// listen keeps the errors and warnings in the browser's console.
func (b *Tab) listen() {
	messages := chromedp.Console(b.ctx)
	go func() {
		for m, err := range messages {
			switch {
			case err != nil:
				return
			case m.Text == markText:
				b.mark <- struct{}{}
			case m.Type == chromedp.ConsoleError, m.Type == chromedp.ConsoleWarning, m.IsException():
				b.mu.Lock()
				b.messages = append(b.messages, strings.TrimSpace(m.String()+" "+m.URL))
				b.mu.Unlock()
			}
		}
	}()
}

// Messages are the errors and warnings in the browser's console that were not asked for yet.
func (b *Tab) Messages() []string {
	b.t.Helper()
	Value[any](b, "console.debug('"+markText+"'), 0")
	<-b.mark
	b.mu.Lock()
	defer b.mu.Unlock()
	said := slices.Clone(b.messages)
	b.messages = nil
	return said
}

func (b *Tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	run(b, func(ctx context.Context) (chromedp.Void, error) { return chromedp.Void{}, chromedp.Do(ctx, steps...) })
}

func run[T any](b *Tab, step func(context.Context) (T, error)) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	result, err := step(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// tell is an action of the browser's protocol that chromedp has no word for.
func tell[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}
