package egress

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestRefusalIsErrForbidden(t *testing.T) {
	t.Parallel()
	transport := NewTransport(Policy{}, Dialing{})
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
		{"localhost where none resolves", "https://localhost./", deadResolver(), "RELAY_EGRESS_ALLOW"},
		{"below localhost", "https://a.LOCALHOST/", deadResolver(), "RELAY_EGRESS_ALLOW"},
		{"a name like localhost", "https://notlocalhost/", deadResolver(), ""},
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

func TestTransportLimits(t *testing.T) {
	t.Parallel()
	policy := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	t.Run("TLS 1.1 is refused", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		server.StartTLS()
		t.Cleanup(server.Close)
		if err := get(t, NewTransport(policy, Dialing{}), server.URL); err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("headers are bounded", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("a", 2*maxHeaderBytes))
		}))
		t.Cleanup(server.Close)
		if err := get(t, NewTransport(policy, Dialing{}), server.URL); err == nil || !strings.Contains(err.Error(), "exceeded") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no proxy, TLS 1.2", func(t *testing.T) {
		t.Parallel()
		for _, transport := range []*http.Transport{NewTransport(Policy{}, Dialing{}), NewOperatorTransport(Dialing{})} {
			if transport.Proxy != nil || transport.TLSClientConfig.MinVersion != tls.VersionTLS12 {
				t.Error("the transport takes a proxy or old TLS")
			}
		}
	})
	t.Run("an operator's address may be private", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(server.Close)
		if err := get(t, NewOperatorTransport(Dialing{}), server.URL); err != nil {
			t.Error(err)
		}
	})
}
