package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	maxURLLength   = 2048
	maxHostLength  = 253 // RFC 1035, without the trailing dot
	maxLabelLength = 63
	lookupTimeout  = 2 * time.Second
)

// howToOpen ends every message about an address, for people who may change that.
const howToOpen = "destinations must be public; an operator can open a network with RELAY_EGRESS_ALLOW"

// CheckURL says at registration whether raw can be a destination: an absolute http or https URL without
// userinfo or fragment, whose host is written plainly and is no forbidden address, nor resolves to one now.
// A name that does not resolve now is accepted: the check at dial time is the one that counts.
//
// Its messages are for the person who typed the URL. They never quote it: a path may be a secret.
func (p Policy) CheckURL(ctx context.Context, raw string) error {
	return p.checkURL(ctx, raw, net.DefaultResolver)
}

func (p Policy) checkURL(ctx context.Context, raw string, resolver *net.Resolver) error {
	u, err := parseURL(raw)
	if err != nil {
		return err
	}
	host := u.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		return explain(p.CheckAddr(addr))
	}
	if err := checkName(host); err != nil {
		return err
	}
	if isLocalhost(host) {
		if err := p.checkLoopback(); err != nil {
			return err
		}
	}
	return p.checkResolved(ctx, host, resolver)
}

// parseURL checks everything about a URL but its host.
func parseURL(raw string) (*url.URL, error) {
	if len(raw) > maxURLLength {
		return nil, fmt.Errorf("is longer than %d bytes", maxURLLength)
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return nil, errors.New("contains white space or a control character: remove it, or percent-encode it")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("is not a valid URL: write it like https://example.com/path")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must begin with https:// or http://")
	case u.User != nil:
		return nil, errors.New("must not contain a user name or password: send credentials in a header instead")
	case u.Hostname() == "":
		return nil, errors.New("names no host: write it like https://example.com/path")
	case strings.Contains(raw, "#"):
		return nil, errors.New("must not contain a fragment: remove everything from the # on")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errors.New("has no valid port: it must be a number from 1 to 65535")
		}
	}
	return u, nil
}

// checkName refuses what is neither a plain address nor a plain DNS name, above all the spellings that some
// resolvers take for an address: 2130706433, 0x7f.1, 0177.0.0.1, 127.1.
func checkName(host string) error {
	name := strings.TrimSuffix(host, ".")
	if len(name) > maxHostLength {
		return fmt.Errorf("has a host longer than %d bytes", maxHostLength)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabelLength {
			return errors.New("has a host that is not a valid DNS name: its parts must have 1 to 63 characters")
		}
		if strings.ContainsFunc(label, notInName) || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return errors.New("has a host that is not a valid DNS name: use letters, digits and, between them, hyphens, " +
				"and write international names in their xn-- form")
		}
	}
	if isNumeric(labels[len(labels)-1]) {
		return errors.New("has a host that looks like an address: write IPv4 as four decimal numbers without " +
			"leading zeros, IPv6 in brackets, or use a DNS name")
	}
	return nil
}

func notInName(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
		return false
	}
	return true
}

// isNumeric reports whether a name that ends in this label would be an address by the WHATWG URL standard
// ("ends in a number"). No top-level domain is one.
func isNumeric(label string) bool {
	_, err := strconv.ParseUint(label, 0, 64)
	allDigits := !strings.ContainsFunc(label, func(r rune) bool { return r < '0' || r > '9' })
	return err == nil || allDigits || strings.HasPrefix(strings.ToLower(label), "0x")
}

// isLocalhost reports the names that are loopback's without a look-up (RFC 6761, section 6.3): not every resolver
// knows them all, so that one may seem to lead nowhere at registration.
func isLocalhost(host string) bool {
	name := "." + strings.ToLower(strings.TrimSuffix(host, "."))
	return strings.HasSuffix(name, ".localhost")
}

// checkLoopback is nil if either loopback address is open.
func (p Policy) checkLoopback() error {
	if p.CheckAddr(netip.IPv6Loopback()) == nil {
		return nil
	}
	return explain(p.CheckAddr(netip.AddrFrom4([4]byte{127, 0, 0, 1})))
}

// checkResolved refuses a name if any of its addresses is forbidden. The answer does not repeat the address:
// what a name resolves to inside the relay's network is not for the outside.
func (p Policy) checkResolved(ctx context.Context, host string, resolver *net.Resolver) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil // not resolvable now may be resolvable later; the dial decides
	}
	for _, addr := range addrs {
		if refused, is := errors.AsType[*ForbiddenError](p.CheckAddr(addr)); is {
			return fmt.Errorf("names a host that resolves to an %w (%s): %s", ErrForbidden, refused.Why, howToOpen)
		}
	}
	return nil
}

// explain adds the way out to a refused literal address.
func explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("names a host that cannot be used: %w; %s", err, howToOpen)
}
