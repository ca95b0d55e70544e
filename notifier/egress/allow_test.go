package egress

import (
	"errors"
	"net/netip"
	"testing"
)

// What RELAY_EGRESS_ALLOW names is reached, and the next address on either side is not.
func TestAllowOpensExactlyWhatItNames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		allow           string
		inside, outside []string
	}{
		{"127.0.0.2/32", []string{"127.0.0.2", "[::ffff:127.0.0.2]", "[::ffff:7f00:2]"}, []string{"127.0.0.1", "127.0.0.3", "[::1]", "[::127.0.0.2]"}},
		{"127.0.0.4/30", []string{"127.0.0.4", "127.0.0.7"}, []string{"127.0.0.3", "127.0.0.8", "[64:ff9b::127.0.0.4]"}},
		{"127.9.0.0/16", []string{"127.9.0.0", "127.9.255.255"}, []string{"127.8.255.255", "127.10.0.0", "0.0.0.0"}},
		{"::ffff:127.0.0.2/128", []string{"127.0.0.2", "[::ffff:127.0.0.2]"}, []string{"127.0.0.1", "127.0.0.3"}},
		{"::ffff:127.0.0.4/126", []string{"127.0.0.4", "[::ffff:7f00:7]"}, []string{"127.0.0.3", "[::ffff:127.0.0.8]"}},
		{"::1/128", []string{"[::1]", "[0:0::1]"}, []string{"127.0.0.1", "[::2]", "[::]", "[::ffff:127.0.0.1]"}},
		{"::/127", []string{"[::1]"}, []string{"[::2]", "127.0.0.1"}},
		{"0.0.0.0/0", []string{"127.0.0.1", "[::ffff:127.0.0.1]"}, []string{"[::1]", "[fd00::1]", "[2002:7f00:1::]"}},
		{"::/0", []string{"[::1]"}, []string{"127.0.0.1", "[::ffff:127.0.0.1]", "[fe80::1%25lo]"}},
		{"10.0.0.0/8", nil, []string{"127.0.0.1", "localhost", "[::1]"}},
	}
	port, reached := listener(t)
	for _, tt := range tests {
		policy := Policy{Allow: []netip.Prefix{netip.MustParsePrefix(tt.allow)}}
		transport := NewTransport(policy, Dialing{Resolver: lyingResolver(t, "127.0.0.1")})
		t.Cleanup(transport.CloseIdleConnections)
		for _, host := range tt.inside {
			before := reached.Load()
			url := "http://" + host + ":" + port + "/"
			if err := policy.CheckURL(t.Context(), url); err != nil {
				t.Errorf("%s: %s is refused: %v", tt.allow, host, err)
			}
			if err := get(t, transport, url); err != nil || reached.Load() != before+1 {
				t.Errorf("%s: %s is not reached: %v", tt.allow, host, err)
			}
		}
		for _, host := range tt.outside {
			before := reached.Load()
			url := "http://" + host + ":" + port + "/"
			if err := policy.CheckURL(t.Context(), url); err == nil {
				t.Errorf("%s: %s is accepted", tt.allow, host)
			}
			if err := get(t, transport, url); !errors.Is(err, ErrForbidden) || reached.Load() != before {
				t.Errorf("%s: %s: got %v", tt.allow, host, err)
			}
		}
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
