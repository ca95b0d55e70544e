package egress

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Host tells trouble of this machine from trouble of the other side.
type Host struct {
	resolver *net.Resolver
	routed   func(context.Context) bool
	now      func() time.Time

	mu      sync.Mutex
	checked time.Time // when the resolver was asked last
	away    bool      // whether it answered then
}

// NewHost returns the machine that connections are made from.
func NewHost(d Dialing) *Host {
	resolver := d.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	return &Host{resolver: resolver, routed: routed, now: time.Now}
}

const (
	// resolverCheckTime is what the resolver has to answer for the root, whose servers it always knows.
	resolverCheckTime = 2 * time.Second
	// resolverCheckFor is how long its answer is believed.
	resolverCheckFor = time.Second
)

// Trouble says what of this machine kept a request from being sent, and what to do about it; "" if it was nothing of
// this machine's, or if ctx ended before that was clear.
func (h *Host) Trouble(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return ""
	}
	var errno syscall.Errno
	var dns *net.DNSError
	var roots x509.SystemRootsError
	switch {
	case errors.As(err, &dns):
		return h.lookupTrouble(ctx, dns)
	case errors.As(err, &roots):
		return "the root certificates of this machine cannot be read: mend that (SSL_CERT_FILE, ca-certificates) and restart the relay"
	case !errors.As(err, &errno):
		return ""
	case errno == syscall.EADDRNOTAVAIL && toIPv4(err):
		// An IPv6 address may have no way there from this machine, ever.
		return "this machine has no free port for a connection: widen net.ipv4.ip_local_port_range"
	case errno == syscall.ENETUNREACH && !h.routed(ctx):
		return noNetwork
	}
	return exhausted(func(e syscall.Errno) bool { return e == errno })
}

const noNetwork = "the network of this machine is down"

// exhausted is what this machine has run out of.
func exhausted(is func(syscall.Errno) bool) string {
	switch {
	case is(syscall.EMFILE):
		return "this relay has too many open files: raise its limit (LimitNOFILE, ulimit -n)"
	case is(syscall.ENFILE):
		return "this machine has too many open files: raise fs.file-max"
	case is(syscall.ENOMEM), is(syscall.ENOBUFS):
		return "this machine has no memory for a connection"
	case is(syscall.ENETDOWN):
		return noNetwork
	}
	return ""
}

// OutOfFiles says whether a request failed because no file could be opened for it.
func OutOfFiles(err error) bool {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return true
	}
	dns, failed := errors.AsType[*net.DNSError](err)
	return failed && (endsIn(dns, syscall.EMFILE) || endsIn(dns, syscall.ENFILE))
}

// endsIn says whether a look-up failed so: a DNSError keeps of its cause only the text.
func endsIn(dns *net.DNSError, errno syscall.Errno) bool {
	return strings.HasSuffix(dns.Err, ": "+errno.Error())
}

// lookupTrouble tells a resolver that is away from a name whose own servers are away, by a look-up of the root.
func (h *Host) lookupTrouble(ctx context.Context, dns *net.DNSError) string {
	if dns.IsNotFound || !dns.IsTimeout && !dns.IsTemporary {
		return ""
	}
	if why := exhausted(func(e syscall.Errno) bool { return endsIn(dns, e) }); why != "" {
		return why
	}
	if h.resolverAway(ctx) {
		return "the resolver of this machine does not answer: look at /etc/resolv.conf and the servers that it names"
	}
	return ""
}

// resolverAway asks the resolver for the root, for all who ask within a second.
func (h *Host) resolverAway(ctx context.Context) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now().Sub(h.checked).Abs() < resolverCheckFor {
		return h.away
	}
	checkCtx, cancel := context.WithTimeout(ctx, resolverCheckTime)
	defer cancel()
	_, err := h.resolver.LookupNS(checkCtx, ".")
	if ctx.Err() != nil {
		return false
	}
	dns, failed := errors.AsType[*net.DNSError](err)
	h.away = failed && !dns.IsNotFound && (dns.IsTimeout || dns.IsTemporary)
	h.checked = h.now()
	return h.away
}

// toIPv4 says whether a connection to an IPv4 address failed.
func toIPv4(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return false
	}
	to, ok := op.Addr.(*net.TCPAddr)
	return ok && to.IP.To4() != nil
}

// routed says whether this machine has a route to any public address. No packet is sent: connecting a UDP socket
// only looks up the route. The addresses are reserved for documentation.
func routed(ctx context.Context) bool {
	err4, err6 := tryRoute(ctx, "192.0.2.1:9"), tryRoute(ctx, "[2001:db8::1]:9")
	return !errors.Is(err4, syscall.ENETUNREACH) || err6 == nil
}

func tryRoute(ctx context.Context, address string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err
}
