package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
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
		"[0000:0000:0000:0000:0000:0000:0000:0001]", "１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1",
		// IPv4 inside IPv6
		"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:10.0.0.1]", "[::127.0.0.1]", "[::7f00:1]",
		"[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:a00:1::1]",
		"[2001:0:7f00:1::]", "[2001::1]", "[::ffff:0:127.0.0.1]",
		// networks that are not public
		"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "100.127.255.255",
		"100.100.100.200", "169.254.169.254", "169.254.0.1", "168.63.129.16", "192.0.0.1", "192.0.0.192", "192.0.2.1",
		"192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
		"240.0.0.1", "255.255.255.255", "0.1.2.3",
		"[fc00::1]", "[fd00:ec2::254]", "[fe80::1]", "[fe80::1%25lo]", "[::1%25lo]", "[fec0::1]", "[ff02::1]", "[ff0e::1]",
		"[100::1]", "[2001:2::1]", "[2001:10::1]", "[2001:20::1]", "[2001:db8::1]", "[3fff::1]", "[3fff:fff::1]",
		"[5f00::1]", "[4000::1]", "[200::1]",
		// names that lead inside
		"rebind.example.com", "metadata.google.internal", "127.0.0.1.nip.io",
	}
}

// listener counts the connections that reach a port of the loopback, on IPv4 and, where there is one, IPv6.
func listener(t *testing.T) (port string, reached *atomic.Int64) {
	t.Helper()
	reached = new(atomic.Int64)
	var config net.ListenConfig
	v4, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(v4.Addr().String())
	listeners := []net.Listener{v4}
	if v6, err := config.Listen(t.Context(), "tcp6", "[::1]:"+port); err == nil {
		listeners = append(listeners, v6)
	}
	for _, l := range listeners {
		t.Cleanup(func() { _ = l.Close() })
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
	}
	return port, reached
}

func TestNoForbiddenHostIsReached(t *testing.T) {
	t.Parallel()
	port, reached := listener(t)
	transport := newTransport(Policy{}, lyingResolver(t, "127.0.0.1", "::1"))
	t.Cleanup(transport.CloseIdleConnections)
	for _, host := range forbiddenHosts() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+":"+port+"/", nil)
		if err == nil {
			var resp *http.Response
			resp, err = transport.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			}
		}
		cancel()
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want a refusal", host, err)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections reached the loopback", n)
	}
}

func TestListenerIsReachedWhenAllowed(t *testing.T) {
	t.Parallel()
	port, reached := listener(t)
	policy := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	transport := newTransport(policy, lyingResolver(t, "127.0.0.1"))
	t.Cleanup(transport.CloseIdleConnections)
	for i, host := range []string{"127.0.0.1", "name.example.com", "[::ffff:127.0.0.1]"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+":"+port, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		_ = resp.Body.Close()
		if got := reached.Load(); got != int64(i+1) {
			t.Fatalf("%s: %d connections, want %d", host, got, i+1)
		}
	}
}

func TestRefusalIsErrForbidden(t *testing.T) {
	t.Parallel()
	transport := NewTransport(Policy{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:9/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, ErrForbidden) {
		t.Errorf("got %v, want ErrForbidden", err)
	}
}

func TestCheckAddrAllowOpensWhatItNames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		allow, addr string
		open        bool
	}{
		{"", "8.8.8.8", true},
		{"", "2606:4700::1111", true},
		{"", "::ffff:8.8.8.8", true},
		{"", "172.32.0.1", true},
		{"", "100.128.0.1", true},
		{"", "198.20.0.1", true},
		{"", "2001:4860:4860::8888", true},
		{"10.1.0.0/16", "10.1.2.3", true},
		{"10.1.0.0/16", "::ffff:10.1.2.3", true},
		{"::ffff:10.1.0.0/112", "10.1.2.3", true},
		{"10.1.0.0/16", "10.2.0.1", false},
		{"10.1.0.0/16", "64:ff9b::a01:203", false},
		{"10.1.0.0/16", "2002:a01:203::", false},
		{"127.0.0.0/8", "0.0.0.0", false},
		{"127.0.0.0/8", "::1", false},
		{"::1/128", "::1", true},
		{"::1/128", "127.0.0.1", false},
		{"::/0", "127.0.0.1", false},
		{"0.0.0.0/0", "169.254.169.254", true},
		{"0.0.0.0/0", "fd00::1", false},
		{"fe80::/10", "fe80::1%eth0", false},
	}
	for _, tt := range tests {
		var policy Policy
		if tt.allow != "" {
			policy.Allow = []netip.Prefix{netip.MustParsePrefix(tt.allow)}
		}
		err := policy.CheckAddr(netip.MustParseAddr(tt.addr))
		if (err == nil) != tt.open || (err != nil && !errors.Is(err, ErrForbidden)) {
			t.Errorf("allow %q, addr %s: got %v, want open=%v", tt.allow, tt.addr, err, tt.open)
		}
	}
	if err := (Policy{}).CheckAddr(netip.Addr{}); !errors.Is(err, ErrForbidden) {
		t.Errorf("the zero address: got %v", err)
	}
}

func TestCheckURLRefusesForbiddenHosts(t *testing.T) {
	t.Parallel()
	resolver := lyingResolver(t, "127.0.0.1", "::1")
	for _, host := range forbiddenHosts() {
		if err := (Policy{}).checkURL(t.Context(), "http://"+host+":8080"+"/x", resolver); err == nil {
			t.Errorf("%s was accepted", host)
		}
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	public := lyingResolver(t, "93.184.216.34", "2606:2800:220:1::1")
	mixed := lyingResolver(t, "93.184.216.34", "10.0.0.7")
	tests := []struct {
		name, url string
		resolver  *net.Resolver
		want      string // part of the message; empty = accepted
	}{
		{"https", "https://example.com/path?q=1", public, ""},
		{"http with port", "http://example.com:8080", public, ""},
		{"address", "https://93.184.216.34/", public, ""},
		{"address 6", "https://[2606:2800:220:1::1]:8443/", public, ""},
		{"trailing dot", "https://example.com./", public, ""},
		{"xn", "https://xn--mnchen-3ya.example/", public, ""},
		{"not resolvable now", "https://later.example.com/", deadResolver(), ""},
		{"one address is private", "https://example.com/", mixed, "RELAY_EGRESS_ALLOW"},
		{"private literal", "https://10.0.0.7/", public, "RELAY_EGRESS_ALLOW"},
		{"decimal", "http://2130706433/", public, "looks like an address"},
		{"octal", "http://0177.0.0.1/", public, "looks like an address"},
		{"scheme", "ftp://example.com/", public, "must begin with https://"},
		{"no scheme", "example.com/hook", public, "must begin with https://"},
		{"scheme in capitals", "HTTPS://example.com/", public, ""},
		{"opaque", "https:example.com", public, "names no host"},
		{"no host", "https:///path", public, "names no host"},
		{"userinfo", "https://a:SECRET@example.com/", public, "credentials in a header"},
		{"fragment", "https://example.com/#SECRET", public, "fragment"},
		{"empty fragment", "https://example.com/#", public, "fragment"},
		{"port 0", "https://example.com:0/", public, "1 to 65535"},
		{"port too large", "https://example.com:65536/", public, "1 to 65535"},
		{"port name", "https://example.com:SECRET/", public, "not a valid URL"},
		{"space", "https://example.com/SECRET b", public, "white space"},
		{"leading space", " https://example.com/SECRET", public, "white space"},
		{"line break", "https://example.com/SECRET\r\nx: y", public, "white space"},
		{"international", "https://münchen.example/", public, "xn--"},
		{"empty label", "https://a..example/", public, "1 to 63"},
		{"long label", "https://" + strings.Repeat("a", 64) + ".example/", public, "1 to 63"},
		{"long host", "https://" + strings.Repeat("a.", 127) + "example/", public, "longer than 253"},
		{"long", "https://example.com/" + strings.Repeat("SECRET", 400), public, "longer than 2048"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := (Policy{}).checkURL(t.Context(), tt.url, tt.resolver)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want a message with %q", err, tt.want)
			case err != nil && (strings.Contains(err.Error(), "SECRET") || strings.Contains(tt.name, "one") && strings.Contains(err.Error(), "10.0.0.7")):
				t.Errorf("the message says too much: %v", err)
			}
		})
	}
}

// A name that was public when it was registered gains nothing by moving inside.
func TestRebinding(t *testing.T) {
	t.Parallel()
	port, reached := listener(t)
	url := "http://rebind.example.com:" + port + "/"
	if err := (Policy{}).checkURL(t.Context(), url, lyingResolver(t, "93.184.216.34")); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := newTransport(Policy{}, lyingResolver(t, "127.0.0.1")).RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, ErrForbidden) || reached.Load() != 0 {
		t.Errorf("got %v and %d connections", err, reached.Load())
	}
}

func TestTransportLimits(t *testing.T) {
	t.Parallel()
	policy := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	get := func(t *testing.T, transport *http.Transport, url string) error {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	t.Run("TLS 1.1 is refused", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		server.StartTLS()
		t.Cleanup(server.Close)
		if err := get(t, NewTransport(policy), server.URL); err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("headers are bounded", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("a", 2*maxHeaderBytes))
		}))
		t.Cleanup(server.Close)
		if err := get(t, NewTransport(policy), server.URL); err == nil || !strings.Contains(err.Error(), "exceeded") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no proxy, TLS 1.2", func(t *testing.T) {
		t.Parallel()
		for _, transport := range []*http.Transport{NewTransport(Policy{}), NewOperatorTransport()} {
			if transport.Proxy != nil || transport.TLSClientConfig.MinVersion != tls.VersionTLS12 {
				t.Error("the transport takes a proxy or old TLS")
			}
		}
	})
	t.Run("an operator's address may be private", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(server.Close)
		if err := get(t, NewOperatorTransport(), server.URL); err != nil {
			t.Error(err)
		}
	})
}
