package testenv_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"oprelay/deploy/testenv"
)

// within is how long a proxy is watched for what must not pass.
const within = 50 * time.Millisecond

func TestProxyCut(t *testing.T) {
	t.Parallel()
	proxy := testenv.StartProxy(t, echo(t))
	first := dial(t, proxy)
	first.echoes("before")
	proxy.Cut()
	first.isReset()
	second := dial(t, proxy)
	second.echoes("after")
	proxy.Refuse()
	second.isReset()
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address(t, proxy.URL)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while refusing: %v, %v", c, err)
	}
	proxy.Restore()
	dial(t, proxy).echoes("restored")
}

func TestProxyLead(t *testing.T) {
	t.Parallel()
	proxy := testenv.StartProxy(t, "echo://127.0.0.1:1/path") // where nobody is
	proxy.Lead(echo(t))
	dial(t, proxy).echoes("led")
}

func TestProxySilence(t *testing.T) {
	t.Parallel()
	proxy := testenv.StartProxy(t, echo(t))
	old := dial(t, proxy)
	old.echoes("before")
	proxy.Silence()
	young := dial(t, proxy)
	for _, c := range []conversation{old, young} {
		c.say("anyone?")
		c.hearsNothing()
	}
	proxy.Restore()
	dial(t, proxy).echoes("restored")
	for _, c := range []conversation{old, young} {
		c.hearsNothing()
	}
	proxy.Cut()
	old.isReset()
	young.isReset()
}

func TestProxySlow(t *testing.T) {
	t.Parallel()
	proxy := testenv.StartProxy(t, echo(t))
	c := dial(t, proxy)
	c.echoes("before")
	proxy.Slow(within)
	start := time.Now()
	c.echoes("slowly")
	if took := time.Since(start); took < within {
		t.Errorf("an answer took %s, want %s at least", took, within)
	}
	proxy.Restore()
	c.echoes("restored")
}

// A process that is being started has the descriptors of the one that starts it, until
// it runs its own program.
func TestProxiesStartWhileProcessesDo(t *testing.T) {
	t.Parallel()
	server := echo(t)
	starts, enough := context.WithCancel(t.Context())
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			for starts.Err() == nil {
				if err := exec.CommandContext(t.Context(), "true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 500 {
		proxy := testenv.StartProxy(t, server)
		proxy.Refuse()
		proxy.Restore()
	}
	enough()
	starting.Wait()
}

// The end of a connection passes too, after all that was sent before it.
func TestProxyPassesTheEnd(t *testing.T) {
	t.Parallel()
	proxy := testenv.StartProxy(t, echo(t))
	c := dial(t, proxy)
	c.say("last words")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(c.in); string(all) != "last words\n" || err != nil {
		t.Errorf("heard %q, %v", all, err)
	}
}

// echo is the URL of a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c) // ends with the connection
				_ = c.Close()
			}()
		}
	}()
	return "echo://" + listener.Addr().String() + "/path"
}

func address(t *testing.T, of string) string {
	t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "echo" || u.Path != "/path" {
		t.Errorf("the proxy's URL is %s", of)
	}
	return u.Host
}

// conversation is one connection through a proxy.
type conversation struct {
	*net.TCPConn

	t  *testing.T
	in *bufio.Reader
}

func dial(t *testing.T, proxy *testenv.Proxy) conversation {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address(t, proxy.URL))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		t.Fatalf("connected by %T", c)
	}
	return conversation{TCPConn: tcp, t: t, in: bufio.NewReader(c)}
}

func (c conversation) say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		c.t.Error(err)
	}
}

func (c conversation) echoes(line string) {
	c.t.Helper()
	c.say(line)
	if heard, err := c.in.ReadString('\n'); heard != line+"\n" || err != nil {
		c.t.Errorf("heard %q, %v; want %q", heard, err, line)
	}
}

func (c conversation) isReset() {
	c.t.Helper()
	if heard, err := c.in.ReadString('\n'); !errors.Is(err, syscall.ECONNRESET) {
		c.t.Errorf("heard %q, %v; want a reset", heard, err)
	}
}

func (c conversation) hearsNothing() {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		c.t.Fatal(err)
	}
	if heard, err := c.in.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("heard %q, %v; want silence", heard, err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		c.t.Fatal(err)
	}
}
