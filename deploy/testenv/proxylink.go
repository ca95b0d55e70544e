package testenv

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

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
