package egress

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dialError is what net/http gives back where a dial fails.
func dialError(address string, call string, errno syscall.Errno) error {
	to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	return &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: os.NewSyscallError(call, errno)}
}

// silent is a DNS server that never answers.
func silent([]byte) []byte { return nil }

// failing answers SERVFAIL to what is asked for the names that it fails for, and nothing wrong to all else.
func failing(fails func(query string) bool) func([]byte) []byte {
	return func(query []byte) []byte {
		answer := dnsAnswer(query, nil)
		if fails(string(query)) {
			const servfail = 2
			answer[3] |= servfail
		}
		return answer
	}
}

// What of a failed send is this machine's own trouble.
func TestTrouble(t *testing.T) {
	t.Parallel()
	const v4, v6 = "192.0.2.1:443", "[2001:db8::1]:443"
	for _, tt := range []struct {
		name string
		err  error
		down bool   // no way to any public address
		want string // part of what is said; empty = not its own
	}{
		{"its limit of files", dialError(v4, "socket", syscall.EMFILE), false, "ulimit -n"},
		{"the machine's files", dialError(v6, "socket", syscall.ENFILE), false, "fs.file-max"},
		{"no memory", dialError(v4, "socket", syscall.ENOMEM), false, "no memory"},
		{"no buffers", dialError(v4, "connect", syscall.ENOBUFS), false, "no memory"},
		{"no port", dialError(v4, "connect", syscall.EADDRNOTAVAIL), false, "ip_local_port_range"},
		{"no IPv6 address", dialError(v6, "connect", syscall.EADDRNOTAVAIL), false, ""},
		{"network down", dialError(v4, "connect", syscall.ENETDOWN), false, "network of this machine is down"},
		{"no way to anywhere", dialError(v6, "connect", syscall.ENETUNREACH), true, "network of this machine is down"},
		{"no way there", dialError(v6, "connect", syscall.ENETUNREACH), false, ""},
		{"a router says so", dialError(v4, "connect", syscall.EHOSTUNREACH), true, ""},
		{"refused", dialError(v4, "connect", syscall.ECONNREFUSED), true, ""},
		{"timed out", dialError(v4, "connect", syscall.ETIMEDOUT), true, ""},
		{"forbidden here", dialError(v4, "connect", syscall.EPERM), false, ""},
		{"reset", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, true, ""},
		{"cut short", io.ErrUnexpectedEOF, true, ""},
		{"no roots", x509.SystemRootsError{Err: syscall.EMFILE}, false, "root certificates"},
		{"unknown authority", x509.UnknownAuthorityError{}, false, ""},
		{"an address that is not allowed", &net.OpError{Op: "dial", Err: &ForbiddenError{}}, true, ""},
		{"look-up without files", &net.DNSError{Err: "dial udp 192.0.2.1:53: socket: too many open files", IsTemporary: true}, false, "ulimit -n"},
		{"no such host", &net.DNSError{Err: "no such host", IsNotFound: true}, true, ""},
		{"a name that no server likes", &net.DNSError{Err: "server misbehaving"}, true, ""},
	} {
		host := NewHost(Dialing{Resolver: dnsServer(t, failing(func(string) bool { return true }))})
		host.routed = func(context.Context) bool { return !tt.down }
		for _, err := range []error{tt.err, &url.Error{Op: "Post", URL: "http://x/", Err: tt.err}, fmt.Errorf("a: %w", tt.err)} {
			if got := host.Trouble(t.Context(), err); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
			}
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if got := host.Trouble(ended, tt.err); got != "" {
			t.Errorf("%s: got %q when the send was over", tt.name, got)
		}
	}
}

// A resolver that is away is this machine's trouble. A name whose own servers are away is not, nor one that there is
// none of: else whoever owns a name could have the relay try for ever.
func TestTroubleOfTheResolver(t *testing.T) {
	t.Parallel()
	ofExample := func(query string) bool { return strings.Contains(query, "example") }
	for name, tt := range map[string]struct {
		resolver *net.Resolver
		own      bool
	}{
		"nothing listens there":       {closedResolver(t), true},
		"it cannot be reached":        {deadResolver(), true},
		"its own servers are away":    {dnsServer(t, failing(func(string) bool { return true })), true},
		"the name's servers are away": {dnsServer(t, failing(ofExample)), false},
		"there is no such name":       {dnsServer(t, failing(func(string) bool { return false })), false},
		"it answers, but not for the name": {dnsServer(t, func(query []byte) []byte {
			if ofExample(string(query)) {
				return nil
			}
			return dnsAnswer(query, nil)
		}), false},
		"it never answers": {dnsServer(t, silent), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := Dialing{Within: 3 * time.Second, Resolver: tt.resolver}
			err := get(t, NewTransport(Policy{}, d), "http://receiver.example/")
			if _, is := errors.AsType[*net.DNSError](err); !is {
				t.Fatalf("got %v, want a failed look-up", err)
			}
			host := NewHost(d)
			for range 2 {
				if got := host.Trouble(t.Context(), err); (got != "") != tt.own || tt.own && !strings.Contains(got, "resolver") {
					t.Errorf("%v: got %q", err, got)
				}
			}
		})
	}
}

// What this machine knows of its ways does not hang on the addresses that are asked for.
func TestRouted(t *testing.T) {
	t.Parallel()
	err4, err6 := tryRoute(t.Context(), "198.51.100.1:9"), tryRoute(t.Context(), "[2001:db8:1::1]:9")
	if got, want := routed(t.Context()), err4 == nil || err6 == nil; got != want {
		t.Errorf("got %v, want %v: %v, %v", got, want, err4, err6)
	}
}
