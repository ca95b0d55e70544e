// Package browser gives tests pages in a real Chromium, headless and with a
// throwaway profile, that reach this machine alone.
package browser

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"oprelay/deploy/testenv"
)

// process is the one browser of all tests that run at the same time. It starts
// with the first of them and ends with the last.
type process struct {
	mu    sync.Mutex
	users int
	ctx   context.Context //nolint:containedctx // chromedp's handle of a browser is a context
	end   func()
}

//nolint:gochecknoglobals // tests of one process share it, as testenv's PostgreSQL
var shared process

// use is the handle of the browser, which runs at least until the test ends.
func (p *process) use(t testing.TB) context.Context {
	t.Helper()
	program := testenv.Chromium(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == 0 {
		if err := p.start(program); err != nil {
			t.Fatalf("start %s: %v", program, err)
		}
	}
	p.users++
	t.Cleanup(p.release)
	return p.ctx
}

func (p *process) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users--; p.users == 0 {
		p.end()
	}
}

// start starts the browser. It speaks to the tests through a pipe, with whose end,
// and so with the test process, it ends. As root it runs without its sandbox, as it
// refuses to run otherwise.
func (p *process) start(program string) error {
	temporary, err := os.MkdirTemp("", "oprelay-chromium-")
	if err != nil {
		return err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.Env("TMPDIR="+temporary), // it leaves things there
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
	)
	allocator, removeProfile := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeBrowser := chromedp.NewContext(allocator)
	end := func() {
		closeBrowser()
		removeProfile()
		_ = os.RemoveAll(temporary)
	}
	if err := chromedp.Do(ctx); err != nil {
		end()
		return err
	}
	p.ctx, p.end = ctx, end
	return nil
}
