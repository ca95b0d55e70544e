package api

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/api/ratelimit"
	"oprelay/storage"
)

// Limits are what callers are held to.
type Limits struct {
	// Counter counts; it may be nil if both rates are zero.
	Counter *ratelimit.Counter
	// Key is how many requests may be made with one API key; zero for no limit.
	Key ratelimit.Rate
	// WrongKeys is how many wrong keys one client address may present before it
	// is told to wait; zero for no limit. Valid keys are served all the same.
	WrongKeys ratelimit.Rate
	// TrustedProxies are the peers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
}

// limitedError says that a caller has to wait.
type limitedError struct {
	kind  problemKind
	who   string
	retry time.Duration
}

func (e *limitedError) Error() string { return fmt.Sprintf("%s: %s", e.kind.slug, e.who) }

// seconds is the time to wait in whole seconds, at least one.
func (e *limitedError) seconds() int { return max(1, int(math.Ceil(e.retry.Seconds()))) }

// setLimits readies what callers are held to. A limiter stays nil where there is no limit.
func (s *Server) setLimits(l Limits) error {
	if l.Counter == nil && (l.Key.N > 0 || l.WrongKeys.N > 0) {
		return errors.New("api: limits without a Counter")
	}
	if l.Key.N > 0 {
		s.keyLimit = l.Counter.Limiter("key", l.Key)
	}
	if l.WrongKeys.N > 0 {
		s.wrongKeyLimit = l.Counter.Limiter("wrong-keys", l.WrongKeys)
	}
	return nil
}

// charge counts a request against its key and tells what is left
// (draft-ietf-httpapi-ratelimit-headers-10).
func (s *Server) charge(c echo.Context, key storage.Key) error {
	if s.keyLimit == nil {
		return nil
	}
	left, rate := s.keyLimit.Take(c.Request().Context(), key.ID), s.keyLimit.Rate()
	header := c.Response().Header() // set as they are spelt, which Header.Set would change
	header["RateLimit-Policy"] = []string{fmt.Sprintf(`"default";q=%d;w=%d`, rate.N, int(rate.Per.Seconds()))}
	header["RateLimit"] = []string{fmt.Sprintf(`"default";r=%d;t=%d`, left.Remaining, int(math.Ceil(left.Reset.Seconds())))}
	if !left.Allowed {
		return &limitedError{kind: problemRateLimited, who: key.ID, retry: left.Retry}
	}
	return nil
}

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
