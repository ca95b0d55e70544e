package egress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"testing"
)

// A name that was public when it was registered gains nothing by moving inside.
func TestRebinding(t *testing.T) {
	t.Parallel()
	port, reached := listener(t)
	url := "http://rebind.example.com:" + port + "/"
	if err := (Policy{}).checkURL(t.Context(), url, lyingResolver(t, "93.184.216.34")); err != nil {
		t.Fatal(err)
	}
	for _, inside := range [][]string{{"127.0.0.1"}, {"::1"}, {"::ffff:127.0.0.1"}, {"0.0.0.0"}, {"::"}, {"10.0.0.1", "127.0.0.1", "::1", "fd00::1"}} {
		err := get(t, NewTransport(Policy{}, Dialing{Resolver: lyingResolver(t, inside...)}), url)
		if !errors.Is(err, ErrForbidden) || reached.Load() != 0 {
			t.Errorf("%v: got %v and %d connections", inside, err, reached.Load())
		}
	}
}

// Of a name with several addresses, only those are connected to that may be, in whatever order they come.
func TestMixedAnswers(t *testing.T) {
	t.Parallel()
	port, reached := listener(t)
	policy := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}
	for _, answers := range [][]string{
		{"127.0.0.2", "127.0.0.1"}, {"127.0.0.1", "127.0.0.2"}, {"127.0.0.1", "::1", "127.0.0.3", "127.0.0.2", "10.0.0.1"},
	} {
		var dialed net.Addr
		transport := NewTransport(policy, Dialing{Resolver: lyingResolver(t, answers...)})
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err == nil {
				dialed = conn.RemoteAddr()
			}
			return conn, err
		}
		before := reached.Load()
		if err := get(t, transport, "http://mixed.example.com:"+port+"/"); err != nil {
			t.Errorf("%v: %v", answers, err)
		}
		if got := reached.Load() - before; got != 1 || dialed == nil || dialed.String() != "127.0.0.2:"+port {
			t.Errorf("%v: %d connections, to %v", answers, got, dialed)
		}
	}
}

// An open connection is used again only for the name and port that it was checked for.
func TestPooledConnectionsAreNotShared(t *testing.T) {
	t.Parallel()
	port, reached := listener(t)
	policy := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}
	transport := NewTransport(policy, Dialing{Resolver: lyingResolver(t, "127.0.0.2")})
	if err := get(t, transport, "http://allowed.example.com:"+port+"/"); err != nil {
		t.Fatal(err)
	}
	if err := get(t, transport, "http://127.0.0.1:"+port+"/"); !errors.Is(err, ErrForbidden) || reached.Load() != 1 {
		t.Errorf("got %v and %d connections", err, reached.Load())
	}
}

const asProxyTest = "EGRESS_TEST_PROXY_TARGET"

// The variables for a proxy are read once in a process, so the test runs itself in another, which has them all.
// In there the target's name is not loopback's, which would never go through a proxy.
func TestNoProxyFromTheEnvironment(t *testing.T) {
	t.Parallel()
	if port := os.Getenv(asProxyTest); port != "" {
		policy := Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
		operator := NewOperatorTransport(Dialing{})
		operator.DialContext = (&net.Dialer{Resolver: lyingResolver(t, "127.0.0.1")}).DialContext
		for _, transport := range []*http.Transport{NewTransport(policy, Dialing{Resolver: lyingResolver(t, "127.0.0.1")}), operator} {
			for _, scheme := range []string{"http", "https"} {
				_ = get(t, transport, scheme+"://name.example.com:"+port+"/") // counted where it arrives
			}
		}
		return
	}
	port, reached := listener(t)
	proxyPort, proxied := listener(t)
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	again.Env = append(os.Environ(), asProxyTest+"="+port, "NO_PROXY=", "no_proxy=")
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		again.Env = append(again.Env, name+"=http://127.0.0.1:"+proxyPort)
	}
	if printed, err := again.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	if reached.Load() != 4 || proxied.Load() != 0 {
		t.Errorf("%d connections reached the target, want 4; %d the proxy, want none", reached.Load(), proxied.Load())
	}
}
