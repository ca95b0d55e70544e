package testenv_test

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"oprelay/deploy/testenv"
)

func TestRefused(t *testing.T) {
	t.Parallel()
	address := testenv.Refused(t, "tcp")
	var dialer net.Dialer
	if _, err := dialer.DialContext(t.Context(), "tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect: %v", err)
	}
	if listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address); err == nil {
		_ = listener.Close()
		t.Error("another server could listen there")
	}

	conn, err := dialer.DialContext(t.Context(), "udp", testenv.Refused(t, "udp"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("datagram: %v", err)
	}
}
