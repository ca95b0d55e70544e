package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// forbiddenHosts are ways to write an address that no destination may have. Some are names to Go; the tests'
// resolver then answers with loopback, as the resolver of some systems would.
func forbiddenHosts() []string {
	return []string{
		// loopback, in every spelling
		"127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.254", "127.1", "127.0.1", "127.0.0.1.", "localhost",
		"LOCALHOST", "localhost.", "any.localhost", "localhost.localdomain", "ip6-localhost", "2130706433", "017700000001",
		"0x7f000001", "0x7f.1", "0x7F.0.0.1", "0177.0.0.1", "0177.0.0.01", "00000177.1", "127.0.0.0x1", "127.000.000.001",
		"0", "0.0.0.0", "00.00.00.00", "0x0", "0.0.0.1", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::0:1]",
		"[0000:0000:0000:0000:0000:0000:0000:0001]", "127.0.0.1..", ".127.0.0.1", "127..1", "[127.0.0.1]", "[::1].",
		"6425673729", "0x17f000001", "127.0.0.257", "127.65793", "0x7f.0x0.0x0.0x1", "0b1111111.1", "1_27.0.0.1",
		strings.Repeat("0", 240) + "177.0.0.1", "0x" + strings.Repeat("0", 240) + "7f000001", strings.Repeat("a.", 126) + "localhost",
		strings.Repeat("a", 64) + ".localhost", strings.Repeat("127.0.0.1.", 200) + "nip.io",
		// characters that some parsers fold into plain ones
		"１２７.0.0.1", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "①②⑦.0.0.1", "𝟏𝟐𝟕.𝟎.𝟎.𝟏", "ⓛocalhost", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
		"ｌｏｃａｌｈｏｓｔ", "loca\u00adlhost", "loc\u200balhost", "\ufefflocalhost", "localhost\u3002", "ſocalhost", "[::①]",
		// characters that some parsers decode, skip or split at
		"%31%32%37.0.0.1", "127%2e0.0.1", "%6cocalhost", "localhost%00", "localhost%2f", "%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1",
		"127.0.0.1\t", "\n127.0.0.1", "127.0.\t0.1", "127.0.0.1\x00", " 127.0.0.1", "127.0.0.1 ", "local\r\nhost",
		"93.184.216.34@127.0.0.1", "user:word@localhost", "@127.0.0.1", "93.184.216.34%40127.0.0.1",
		`93.184.216.34\@127.0.0.1`, `127.0.0.1\.example.com`, `\127.0.0.1`, "93.184.216.34:80@[::1]", "[::1]@[::1]",
		// IPv4 inside IPv6
		"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:10.0.0.1]", "[::127.0.0.1]", "[::7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
		"[::ffff:0.0.0.0]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::ffff:127.1]", "[::ffff:0x7f.0.0.1]", "[::ffff:0177.0.0.1]",
		"[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[64:ff9b:1:ffff::10.0.0.1]",
		"[2002:7f00:1::]", "[2002:a00:1::1]", "[2002:a9fe:a9fe::1]", "[2001:0:7f00:1::]", "[2001::1]",
		"[2001:0:5db8:d822:0:ffff:80ff:fffe]", "[::ffff:0:127.0.0.1]", "[fe80::5efe:127.0.0.1]",
		// the special-purpose registry of IPv4
		"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255", "100.64.0.1", "100.127.255.255",
		"100.100.100.200", "169.254.169.254", "169.254.0.1", "168.63.129.16", "192.0.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.10",
		"192.0.0.170", "192.0.0.171", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.88.99.2",
		"192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
		"240.0.0.1", "255.255.255.255", "0.1.2.3", "0.255.255.255",
		// the special-purpose registry of IPv6, and what is handed out to nobody
		"[fc00::1]", "[fd00:ec2::254]", "[fd20:ce::254]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[ff0e::1]", "[100::1]", "[100:0:0:1::1]",
		"[2001:1::1]", "[2001:1::2]", "[2001:1::3]", "[2001:2::1]", "[2001:3::1]", "[2001:4:112::1]", "[2001:10::1]", "[2001:20::1]",
		"[2001:2f:ffff::1]", "[2001:30::1]", "[2001:1ff:ffff::1]", "[2001:db8::1]", "[2620:4f:8000::1]", "[3fff::1]", "[3fff:fff::1]",
		"[5f00::1]", "[4000::1]", "[200::1]", "[::2]", "[1::1]", "[e000::1]",
		// zones and formats of the future
		"[fe80::1%25lo]", "[::1%25lo]", "[::1%25]", "[::1%lo]", "[::ffff:127.0.0.1%25lo]", "[2606:4700::1111%25lo]", "[v1.127.0.0.1]",
		// names that lead inside
		"rebind.example.com", "metadata.google.internal", "metadata", "127.0.0.1.nip.io", "127-0-0-1.sslip.io", "xn--localhost", "_",
	}
}

// ownHosts are the addresses of this machine that no other network reaches.
func ownHosts(t *testing.T) []string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for _, addr := range addrs {
		prefix, err := netip.ParsePrefix(addr.String())
		if ip := prefix.Addr(); err == nil && (ip.IsPrivate() || ip.IsLoopback()) {
			hosts = append(hosts, strings.TrimSuffix(net.JoinHostPort(ip.String(), ""), ":"))
		}
	}
	return hosts
}

// listener counts the connections that reach a port of this machine, whichever of its addresses they are to.
func listener(t *testing.T) (port string, reached *atomic.Int64) {
	t.Helper()
	reached = new(atomic.Int64)
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			_, _ = conn.Read(make([]byte, 4096)) // the request, which is small
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			_ = conn.Close()
		}
	}()
	return port, reached
}

// get sends one request through the transport and returns what became of it.
func get(t *testing.T, transport *http.Transport, target string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// refused reports whether a request came to nothing before any connection was begun: its URL is none, its host leads to
// no address, or to one that is not allowed. A network that has no way there is no refusal.
func refused(err error) bool {
	if parse, is := errors.AsType[*url.Error](err); is && parse.Op == "parse" {
		return true
	}
	lookup, is := errors.AsType[*net.DNSError](err)
	return is && lookup.IsNotFound || errors.Is(err, ErrForbidden)
}

// As if their rows were in the database already: every form is dialed, and the listener counts.
func TestNoForbiddenHostIsReached(t *testing.T) {
	t.Parallel()
	port, reached := listener(t)
	transport := NewTransport(Policy{}, Dialing{Resolver: lyingResolver(t, "127.0.0.1", "::1")})
	t.Cleanup(transport.CloseIdleConnections)
	for _, host := range append(forbiddenHosts(), ownHosts(t)...) {
		for _, scheme := range []string{"http://", "https://"} {
			if err := get(t, transport, scheme+host+":"+port+"/"); !refused(err) {
				t.Errorf("%q: got %v, want a refusal", scheme+host, err)
			}
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections reached this machine", n)
	}
}

func TestCheckURLRefusesForbiddenHosts(t *testing.T) {
	t.Parallel()
	port, reached := listener(t)
	resolver := lyingResolver(t, "127.0.0.1", "::1")
	for _, host := range append(forbiddenHosts(), ownHosts(t)...) {
		for _, rest := range []string{":" + port + "/x", "/", ""} {
			if err := (Policy{}).checkURL(t.Context(), "https://"+host+rest, resolver); err == nil {
				t.Errorf("%q was accepted", host+rest)
			}
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("checking made %d connections", n)
	}
}

// Forms in which the host is not all that is odd.
func TestCheckURLRefusesOddForms(t *testing.T) {
	t.Parallel()
	resolver := lyingResolver(t, "93.184.216.34")
	for _, url := range []string{
		"", "/", "//example.com/", "///example.com", "example.com", "http:", "http:/", "http://", "http:example.com", "http:/example.com",
		`http:\\example.com`, `http:/\example.com`, `\\example.com`, "http://:80", "http://[", "http://]/", "http://[]/", "http://[::1/",
		"https://example.com:0", "https://example.com:00", "https://example.com:65536", "https://example.com:-1", "https://example.com:+80",
		"https://example.com:80:80", "https://example.com:0x50", "https://example.com:８０", "https://example.com:80 ",
		"https://example.com:99999999999999999999", "https://example.com:%38%30", "https://user@example.com/", "https://@example.com/",
		"https://example.com#@127.0.0.1/", "https://example.com/#", "https://exa\tmple.com/", "https://example.com/\n", "https://example.com/\x7f",
		"https://example.com/\u0085", "https://example.com/\u2028", "https://example.com/%zz", "ftp://example.com/", "file:///etc/passwd",
		"gopher://example.com/", "unix:///run/docker.sock", "http+unix://%2frun%2fdocker.sock/", "javascript:alert(1)", "data:,x", "ws://example.com/",
		"https://[2606:4700::1111%25lo]/", "https://[2606:4700::1111]x/", "https://2606:4700::1111/", "https://example.com\\@127.0.0.1/",
		"https://exa%6dple.com/", "https://example.com%00.evil/", "https://-/", "https://-a.example/", "https://a-.example/", "https://" + strings.Repeat("a", 2048) + "/",
	} {
		if err := (Policy{}).checkURL(t.Context(), url, resolver); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}
