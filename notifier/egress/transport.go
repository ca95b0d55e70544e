package egress

import (
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
	dialTimeout    = 10 * time.Second
	tlsTimeout     = 10 * time.Second
	headerTimeout  = 60 * time.Second // a backstop: senders bound the whole request by its context
	idleTimeout    = 90 * time.Second
	maxHeaderBytes = 64 << 10
	maxIdle        = 1024
	maxIdlePerHost = maxIdle // a destination may allow a thousand requests at once
)

// NewTransport returns a transport to addresses that other people chose. Every connection's resolved address
// must pass the policy, so a name that resolves differently the second time gains nothing.
//
// It takes no proxy from the environment and speaks TLS 1.2 or newer. It speaks HTTP/1.1 only: over HTTP/2
// one connection would carry many deliveries, and one stalled connection would stall them all. A transport
// follows no redirects; callers that wrap it in an http.Client must return http.ErrUseLastResponse.
func NewTransport(p Policy) *http.Transport {
	return newTransport(p, net.DefaultResolver)
}

// NewOperatorTransport returns a transport with the same limits to addresses that the operator chose in the
// configuration: those may be private, so no policy applies.
func NewOperatorTransport() *http.Transport {
	return transportOver(&net.Dialer{Timeout: dialTimeout})
}

func newTransport(p Policy, resolver *net.Resolver) *http.Transport {
	return transportOver(&net.Dialer{
		Timeout:  dialTimeout,
		Resolver: resolver,
		// Runs after resolution and before connect, once per address tried.
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			return p.checkDial(network, address)
		},
	})
}

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

func transportOver(dialer *net.Dialer) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		Protocols:              &protocols,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
	}
}
