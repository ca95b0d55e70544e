package testenv_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"oprelay/deploy/testenv"
)

func TestFrozenProgramTellsItsConnections(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	script := "exec 3<>/dev/tcp/127.0.0.1/PORT; read -r -u 3"
	p := testenv.StartProgram(t, "/bin/bash", t.TempDir(), nil, "-c", strings.Replace(script, "PORT", port, 1))
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })

	addresses := p.Freeze()
	p.Kill()
	if want := conn.RemoteAddr().String(); !slices.Contains(addresses, want) {
		t.Errorf("the connections are %q, want %s among them", addresses, want)
	}
}
