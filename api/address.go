package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// networkBits is how much of an IPv6 address tells clients apart: the rest is
// theirs to change (RFC 6177).
const networkBits = 64

// clientAddress finds the client's address: the peer's, or the last one that
// trusted proxies did not put there themselves. Where a trusted proxy wrote what
// is no address, it is the peer's. Echo's own refuses the ports that some load
// balancers write, and so takes all their clients for one.
func clientAddress(trusted []netip.Prefix) echo.IPExtractor {
	proxies := make([]netip.Prefix, len(trusted))
	for i, prefix := range trusted {
		if address := prefix.Addr(); address.Is4In6() {
			prefix = netip.PrefixFrom(address.Unmap(), prefix.Bits()-(128-32))
		}
		proxies[i] = prefix
	}
	return func(r *http.Request) string {
		peer, err := parseAddress(r.RemoteAddr)
		if err != nil {
			return r.RemoteAddr
		}
		client := peer
		hops := strings.Split(strings.Join(r.Header.Values(echo.HeaderXForwardedFor), ","), ",")
		for _, hop := range slices.Backward(hops) {
			if !slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(client) }) {
				break
			}
			if client, err = parseAddress(strings.TrimSpace(hop)); err != nil {
				return peer.String()
			}
		}
		return client.String()
	}
}

// parseAddress reads an address, which may have a port, brackets and a zone.
func parseAddress(text string) (netip.Addr, error) {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return plain(withPort.Addr()), nil
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text = strings.TrimSuffix(inner, "]")
	}
	address, err := netip.ParseAddr(text)
	return plain(address), err
}

// plain is the one form that an address is compared in.
func plain(address netip.Addr) netip.Addr { return address.Unmap().WithZone("") }

// network is what clients are told apart by.
func network(address string) string {
	parsed, err := parseAddress(address)
	if err != nil {
		return address
	}
	if parsed.Is4() {
		return parsed.String()
	}
	prefix, _ := parsed.Prefix(networkBits) // shorter than any IPv6 address
	return prefix.String()
}
