package testenv

import (
	"net"
	"testing"
)

// Refused returns the host and port of an address of this machine that refuses
// connections ("tcp") or datagrams ("udp") until the test ends. It is the near end of a
// connection: a port that was merely closed may soon be another server's.
func Refused(t testing.TB, network string) string {
	t.Helper()
	var far net.Addr
	var closeFar func() error
	if network == "udp" {
		conn, err := net.ListenPacket(network, loopback+":0") //nolint:noctx // answers at once
		if err != nil {
			t.Fatal(err)
		}
		far, closeFar = conn.LocalAddr(), conn.Close
	} else {
		listener, err := net.Listen(network, loopback+":0") //nolint:noctx // answers at once
		if err != nil {
			t.Fatal(err)
		}
		far, closeFar = listener.Addr(), listener.Close
	}
	t.Cleanup(func() { _ = closeFar() })
	near, err := net.Dial(network, far.String()) //nolint:noctx // answers at once
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	return near.LocalAddr().String()
}
