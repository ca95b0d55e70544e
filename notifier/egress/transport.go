package egress

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

const (
	idleTimeout    = 90 * time.Second
	maxHeaderBytes = 64 << 10
)

// Dialing is how connections are made.
type Dialing struct {
	// Within bounds one request as a whole, by its context. Resolving and connecting may take two thirds of it, and so
	// may the TLS handshake, so that a receiver that is away is told from a slow one. Nothing else limits the time of
	// the answer. 0 means DefaultWithin.
	Within   time.Duration
	Resolver *net.Resolver // of hosts' names; nil means the system's
	MaxIdle  int           // connections that wait for reuse, to all hosts or to one; 0 means DefaultMaxIdle
}

// DefaultMaxIdle is as many requests as one destination may allow at once.
const DefaultMaxIdle = 1024

// DefaultWithin is what one request may take if nothing else is said.
const DefaultWithin = 15 * time.Second

// connecting is the share of a request's time for its connection.
func (d Dialing) connecting() time.Duration { return cmp.Or(d.Within, DefaultWithin) * 2 / 3 }

// NewTransport returns a transport to addresses that other people chose. Every connection's resolved address
// must pass the policy, so a name that resolves differently the second time gains nothing.
//
// It takes no proxy from the environment and speaks TLS 1.2 or newer. It speaks HTTP/1.1 only: over HTTP/2
// one connection would carry many deliveries, and one stalled connection would stall them all. A transport
// follows no redirects; callers that wrap it in an http.Client must return http.ErrUseLastResponse.
func NewTransport(p Policy, d Dialing) *http.Transport {
	dialer := d.dialer()
	// Runs after resolution and before connect, once per address tried.
	dialer.ControlContext = func(_ context.Context, network, address string, _ syscall.RawConn) error {
		return p.checkDial(network, address)
	}
	return d.over(dialer)
}

// NewOperatorTransport returns a transport with the same limits to addresses that the operator chose in the
// configuration: those may be private, so no policy applies.
func NewOperatorTransport(d Dialing) *http.Transport { return d.over(d.dialer()) }

// checkDial judges the numeric address that a dialer is about to connect to.
func (p Policy) checkDial(network, address string) error {
	if !strings.HasPrefix(network, "tcp") {
		return fmt.Errorf("%w: network %s", ErrForbidden, network)
	}
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s is not numeric", ErrForbidden, address)
	}
	return p.CheckAddr(target.Addr())
}

func (d Dialing) dialer() *net.Dialer {
	return &net.Dialer{Timeout: d.connecting(), Resolver: d.Resolver}
}

func (d Dialing) over(dialer *net.Dialer) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		Protocols:              &protocols,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    d.connecting(),
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConns:           cmp.Or(d.MaxIdle, DefaultMaxIdle),
		MaxIdleConnsPerHost:    cmp.Or(d.MaxIdle, DefaultMaxIdle),
	}
}
