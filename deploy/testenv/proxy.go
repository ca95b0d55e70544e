package testenv

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Proxy stands between a program under test and a server, and fails as networks
// do. Its methods may be called from any goroutine and hold until the next one.
type Proxy struct {
	// URL is the server's own, through the proxy.
	URL string

	t       testing.TB
	address string // the proxy's own, host and port
	links   sync.WaitGroup

	opening sync.Mutex // held while connections begin or cease to be refused

	mu       sync.Mutex
	server   string             // host and port
	listener net.Listener       // nil while connections are refused
	closed   chan struct{}      // when nobody waits at it any more
	place    int                // then a socket that keeps the address from others
	open     map[*link]struct{} // every connection that is not over
	silent   bool
	latency  time.Duration
}

// StartProxy starts a proxy before the server that the URL names; it ends with
// the test, and so do its connections.
func StartProxy(t testing.TB, serverURL string) *Proxy {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatalf("the URL of the server: %v", err)
	}
	listener := listenOnFreePort()
	p := &Proxy{t: t, server: u.Host, address: listener.Addr().String(), open: map[*link]struct{}{}}
	u.Host = p.address
	p.URL = u.String()
	p.listen(listener)
	t.Cleanup(func() {
		p.opening.Lock()
		defer p.opening.Unlock()
		p.stopListening()
		p.leavePlace()
		p.Cut()
		p.links.Wait()
	})
	return p
}

// Cut resets every connection, whatever it is in the middle of. New ones are
// accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset()
}

// Refuse resets every connection and refuses new ones.
func (p *Proxy) Refuse() {
	p.opening.Lock()
	defer p.opening.Unlock()
	if p.stopListening() {
		p.keepPlace()
	}
	p.Cut()
}

// stopListening is false if nobody listened.
func (p *Proxy) stopListening() bool {
	p.mu.Lock()
	listener := p.listener
	p.listener = nil
	p.mu.Unlock()
	if listener == nil {
		return false
	}
	_ = listener.Close()
	<-p.closed // for the address is taken until nobody waits at the listener
	return true
}

// keepPlace binds the address without listening there: connections are refused, and
// no other test's server takes the port meanwhile.
func (p *Proxy) keepPlace() {
	address := netip.MustParseAddrPort(p.address)
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		p.place = socket
		err = syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}
	if err == nil {
		at := &syscall.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
		// A process that another test is starting has the listener, too, until it runs its own program.
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(5 * time.Second); ; <-tick.C {
			if err = syscall.Bind(socket, at); !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
				break
			}
		}
	}
	if err != nil {
		p.t.Errorf("proxy: keep %s: %v", p.address, err)
	}
}

// leavePlace ends keepPlace.
func (p *Proxy) leavePlace() {
	if p.place != 0 {
		_ = syscall.Close(p.place)
		p.place = 0
	}
}

// Silence lets nothing pass any more, not even the end of a connection. New
// connections are accepted and as silent. Those that were open meanwhile are
// silent for good, as behind a firewall that has forgotten them.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
	for l := range p.open {
		l.silence()
	}
}

// Slow delays each piece of an answer by the latency, on the open connections too.
func (p *Proxy) Slow(latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = latency
}

// Lead leads new connections to another server.
func (p *Proxy) Lead(serverURL string) {
	p.t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		p.t.Fatalf("the URL of the server: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = u.Host
}

// Restore accepts connections and lets everything pass at once again.
func (p *Proxy) Restore() {
	p.t.Helper()
	p.opening.Lock()
	defer p.opening.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent, p.latency = false, 0
	if p.listener != nil {
		return
	}
	p.leavePlace()
	listener, err := new(net.ListenConfig).Listen(context.WithoutCancel(p.t.Context()), "tcp", p.address)
	if err != nil {
		p.t.Errorf("proxy: %v", err)
		return
	}
	p.listen(listener)
}

// listen accepts connections; p.mu is held, or nobody else has the proxy yet.
func (p *Proxy) listen(listener net.Listener) {
	p.listener = listener
	closed := make(chan struct{})
	p.closed = closed
	p.links.Go(func() {
		defer close(closed)
		for {
			client, err := listener.Accept()
			if err != nil {
				return // Refuse closed it
			}
			p.accept(listener, client)
		}
	})
}

// accept links a new connection to the server, unless Refuse came first.
func (p *Proxy) accept(listener net.Listener, client net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := newLink(p, client)
	if p.listener != listener {
		l.reset()
		return
	}
	p.open[l] = struct{}{}
	if p.silent {
		l.silence()
	}
	server := p.server
	p.links.Go(func() {
		l.run(server)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, l)
	})
}

// reset resets every open connection; p.mu is held.
func (p *Proxy) reset() {
	for l := range p.open {
		l.reset()
	}
}

// delay is by how much an answer is late now.
func (p *Proxy) delay() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latency
}

// dialTime is how long a proxy tries to reach its server.
const dialTime = 10 * time.Second

// link is one connection through a proxy.
type link struct {
	proxy  *Proxy
	client net.Conn
	over   chan struct{} // closed by reset
	hushed chan struct{} // closed by silence
	end    sync.Once
	hush   sync.Once

	mu     sync.Mutex
	server net.Conn // nil until it is reached
	dead   bool     // reset was called
}

func newLink(p *Proxy, client net.Conn) *link {
	return &link{proxy: p, client: client, over: make(chan struct{}), hushed: make(chan struct{})}
}

// silence lets nothing pass until the end of the link.
func (l *link) silence() { l.hush.Do(func() { close(l.hushed) }) }

// reset ends the link with a TCP reset to both sides.
func (l *link) reset() {
	l.end.Do(func() {
		close(l.over)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.dead = true
		abort(l.client)
		if l.server != nil {
			abort(l.server)
		}
	})
}

func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // what is closed then is reset
	}
	_ = c.Close()
}

// run passes bytes both ways until both sides have ended or the link is reset.
func (l *link) run(address string) {
	defer func() { _ = l.client.Close() }()
	server, err := net.DialTimeout("tcp", address, dialTime) //nolint:noctx // bounded by dialTime
	if err != nil || !l.reached(server) {
		l.reset()
		return
	}
	defer func() { _ = server.Close() }()
	var ways sync.WaitGroup
	ways.Go(func() { l.pass(server, l.client, func() time.Duration { return 0 }) })
	ways.Go(func() { l.pass(l.client, server, l.proxy.delay) })
	ways.Wait()
}

// reached notes the connection to the server; false if the link is over already.
func (l *link) reached(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		abort(server)
		return false
	}
	l.server = server
	return true
}

// pass copies from one side to the other, the end included, each piece late by delay.
func (l *link) pass(to, from net.Conn, delay func() time.Duration) {
	buffer := make([]byte, 32<<10)
	for {
		n, readErr := from.Read(buffer)
		if !l.await(delay()) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			l.reset()
			return
		}
		switch {
		case readErr == nil:
		case errors.Is(readErr, io.EOF):
			if tcp, ok := to.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			return
		default:
			l.reset()
			return
		}
	}
}

// await waits for the delay, and for ever while the link is silent; false when
// the link ended meanwhile.
func (l *link) await(delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-l.over:
		return false
	case <-l.hushed:
		<-l.over
		return false
	case <-timer.C:
	}
	select {
	case <-l.hushed:
		<-l.over
		return false
	default:
		return true
	}
}
