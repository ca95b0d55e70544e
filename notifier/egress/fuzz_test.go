package egress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"testing"
)

var errNoNetwork = errors.New("nothing is dialed here")

// dialsOf is what net/http would connect to for a URL: the addresses that pass the policy's check at dial time.
func dialsOf(t *testing.T, raw string, resolver *net.Resolver) []netip.Addr {
	t.Helper()
	var passed []netip.Addr
	transport := Dialing{}.over(&net.Dialer{
		Resolver: resolver, FallbackDelay: -1, // one address after the other
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			if target, err := netip.ParseAddrPort(address); err == nil && (Policy{}).checkDial(network, address) == nil {
				passed = append(passed, target.Addr())
			}
			return errNoNetwork
		},
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, raw, nil)
	if err != nil {
		return nil
	}
	resp, err := transport.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
		t.Errorf("%q was answered", raw)
	}
	return passed
}

// isInside says by the standard library's words alone that an address is of this machine or its neighbours.
func isInside(addr netip.Addr) bool {
	return addr.Zone() != "" || addr.IsLoopback() || addr.IsPrivate() || addr.IsUnspecified() || addr.IsMulticast() ||
		addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast() || !addr.IsGlobalUnicast()
}

// Whatever is written in a URL, net/http connects to no address inside; and what CheckURL has accepted while every
// name leads inside is the public address that is written in it.
func FuzzCheckURL(f *testing.F) {
	for i, host := range forbiddenHosts() {
		f.Add([]string{"http://", "https://"}[i%2] + host + []string{"", "/", ":8080/a?b=c"}[i%3])
	}
	for _, seed := range []string{
		"https://example.com/path?q=1", "http://93.184.216.34:8080", "https://[2606:4700::1111]:8443/", "HTTPS://EXAMPLE.com.",
		"https://example.com:0", "https://a:b@example.com", "https://example.com#x", "https:example.com", `http:\\127.0.0.1`, "http://[::ffff:8.8.8.8]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		inside := lyingResolver(t, "127.0.0.1", "::1")
		err := (Policy{}).checkURL(t.Context(), raw, inside)
		passed := dialsOf(t, raw, inside)
		for _, addr := range passed {
			if isInside(addr) || isInside(addr.Unmap()) {
				t.Errorf("%q leads to %s", raw, addr)
			}
		}
		if err != nil {
			if text := err.Error(); text == "" || strings.Contains(text, raw) && len(raw) > len("https://") {
				t.Errorf("%q: the message quotes it, or is empty: %s", raw, text)
			}
			return
		}
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("%q was accepted: %v", raw, err)
		}
		want, err := netip.ParseAddr(u.Hostname())
		if err != nil || len(passed) != 1 || passed[0].Unmap() != want.Unmap() {
			t.Errorf("%q was accepted, and leads to %v", raw, passed)
		}
	})
}

// An address that only an allowed network makes reachable is in that network.
func FuzzAllow(f *testing.F) {
	for _, seed := range []struct{ allow, addr string }{
		{"10.1.0.0/16", "10.1.2.3"},
		{"::ffff:10.1.0.0/112", "::ffff:10.1.2.3"},
		{"::/0", "127.0.0.1"},
		{"0.0.0.0/0", "::1"},
		{"fe80::/10", "fe80::1%eth0"},
		{"64:ff9b::/96", "64:ff9b::7f00:1"},
		{"::ffff:0:0/95", "127.0.0.1"},
	} {
		f.Add(seed.allow, seed.addr)
	}
	f.Fuzz(func(t *testing.T, allow, text string) {
		prefix, errPrefix := netip.ParsePrefix(allow)
		addr, errAddr := netip.ParseAddr(text)
		if errPrefix != nil || errAddr != nil {
			return
		}
		closed, open := (Policy{}).CheckAddr(addr), Policy{Allow: []netip.Prefix{prefix}}.CheckAddr(addr)
		if closed == nil && isInside(addr) {
			t.Errorf("%s is reachable by default", addr)
		}
		named := prefix.Contains(addr) || prefix.Contains(addr.Unmap()) || prefix.Contains(netip.AddrFrom16(addr.As16()))
		if closed == nil && open != nil || closed != nil && open == nil && !named {
			t.Errorf("%s with %s allowed: %v, without: %v", addr, prefix, open, closed)
		}
	})
}
