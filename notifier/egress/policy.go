// Package egress is the relay's way out to addresses that other people chose.
//
// A destination's URL comes from a tenant, so the request it causes must not reach what only the relay's
// own network can reach: its loopback, its neighbours, its cloud's metadata service. A [Policy] says which
// addresses are open. [NewTransport] holds it at dial time, on the resolved address, for every connection:
// that is the check that counts. [Policy.CheckURL] applies the same rules at registration, only to say early
// and clearly what is wrong.
package egress

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrForbidden is what a refused address comes down to, from CheckAddr, CheckURL and a refused dial alike.
var ErrForbidden = errors.New("address not allowed")

// Policy says which addresses may be reached. The zero value allows public unicast addresses only.
type Policy struct {
	// Allow opens exactly what it names beside the public addresses (RELAY_EGRESS_ALLOW).
	Allow []netip.Prefix
}

// ForbiddenError says why an address is refused. It is an [ErrForbidden].
type ForbiddenError struct {
	Addr netip.Addr
	Why  string // what the address is: "loopback", "private network", ...
}

func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("%s is not a public address (%s)", e.Addr, e.Why)
}

// Is makes every ForbiddenError an ErrForbidden.
func (e *ForbiddenError) Is(target error) bool { return target == ErrForbidden }

// CheckAddr returns nil if addr may be reached, else a *[ForbiddenError].
//
// An IPv4-mapped address (::ffff:a.b.c.d) is judged, and allowed, as the IPv4 address that it reaches.
// Addresses with a zone are always refused: a zone names an interface of this machine.
func (p Policy) CheckAddr(addr netip.Addr) error {
	if !addr.IsValid() {
		return &ForbiddenError{Addr: addr, Why: "not an address"}
	}
	if addr.Zone() != "" {
		return &ForbiddenError{Addr: addr, Why: "it names an interface of this machine"}
	}
	addr = addr.Unmap()
	for _, allowed := range p.Allow {
		if unmapPrefix(allowed).Contains(addr) {
			return nil
		}
	}
	for _, r := range forbidden {
		if r.prefix.Contains(addr) {
			return &ForbiddenError{Addr: addr, Why: r.why}
		}
	}
	if addr.Is6() && !globalUnicast6.Contains(addr) {
		return &ForbiddenError{Addr: addr, Why: "outside IPv6 global unicast"}
	}
	return nil
}

// unmapPrefix turns ::ffff:10.0.0.0/104 into 10.0.0.0/8, which is how addresses are compared.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	const mapped = 96
	if p.Addr().Is4In6() && p.Bits() >= mapped {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
	}
	return p
}

// globalUnicast6 is the only part of IPv6 that IANA has handed out for global unicast. Everything outside is
// refused, whether it is in the table below (which then only gives a better reason) or not.
//
//nolint:gochecknoglobals // a constant that Go cannot declare as one
var globalUnicast6 = netip.MustParsePrefix("2000::/3")

type forbiddenRange struct {
	prefix netip.Prefix
	why    string
}

// forbidden holds the whole of the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates),
// what is globally reachable there too: anycast addresses lead to whatever is nearest. Ranges that carry an IPv4
// address inside (6to4, NAT64, Teredo) are refused whole: a gateway would unwrap them. A NAT64 gateway with a prefix of
// its own cannot be known from here: such a network has to filter by itself.
//
//nolint:gochecknoglobals // a constant that Go cannot declare as one
var forbidden = []forbiddenRange{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private network"},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud's host service"}, // Azure's wire server: public in form only
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, metadata services"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private network"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.31.196.0/24"), "AS112 sink"},
	{netip.MustParsePrefix("192.52.193.0/24"), "multicast relays"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relays"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private network"},
	{netip.MustParsePrefix("192.175.48.0/24"), "AS112 sink"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},

	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible"},
	{netip.MustParsePrefix("64:ff9b::/96"), "NAT64"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "NAT64"},
	{netip.MustParsePrefix("100::/64"), "discard"},
	{netip.MustParsePrefix("2001::/32"), "Teredo"},
	{netip.MustParsePrefix("2001:2::/48"), "benchmarking"},
	{netip.MustParsePrefix("2001:10::/28"), "ORCHID"},
	{netip.MustParsePrefix("2001:20::/28"), "ORCHID"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "AS112 sink"},
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
	{netip.MustParsePrefix("fc00::/7"), "unique local"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}
