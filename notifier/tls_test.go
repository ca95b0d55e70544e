package notifier_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"oprelay/notifier"
)

// certificate is self-signed, for the address and until the time given.
func certificate(t *testing.T, address string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.ParseIP(address)},
		NotBefore: until.Add(-time.Hour), NotAfter: until,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// A receiver whose TLS is wrong gets nothing of the message, and the error says what to mend.
func TestTLSThatMisbehaves(t *testing.T) {
	t.Parallel()
	good := certificate(t, "127.0.0.1", time.Now().Add(time.Hour))
	speak := func(config *tls.Config) func(net.Conn) {
		return func(conn net.Conn) {
			_, _ = io.Copy(io.Discard, tls.Server(conn, config)) // the handshake, and then whatever is sent
		}
	}
	tests := []struct {
		name  string
		serve func(net.Conn)
		fault string
		late  bool
	}{
		{name: "expired", serve: speak(&tls.Config{Certificates: []tls.Certificate{certificate(t, "127.0.0.1", time.Now().Add(-time.Minute))}}), fault: "has expired"},
		{name: "not yet valid", serve: speak(&tls.Config{Certificates: []tls.Certificate{certificate(t, "127.0.0.1", time.Now().Add(48*time.Hour))}}), fault: "not yet valid"},
		{name: "for another host", serve: speak(&tls.Config{Certificates: []tls.Certificate{certificate(t, "192.0.2.1", time.Now().Add(time.Hour))}}), fault: "another host"},
		{name: "self-signed", serve: speak(&tls.Config{Certificates: []tls.Certificate{good}}), fault: "unknown authority"},
		{name: "TLS 1.1", serve: speak(&tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}), fault: "TLS handshake failed"},
		{name: "no certificate", serve: speak(&tls.Config{}), fault: "TLS handshake failed"},
		{name: "plain HTTP", serve: func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		}, fault: "does not speak TLS"},
		{name: "garbage", serve: func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, strings.Repeat("garbage", 100))
		}, fault: "does not speak TLS"},
		{name: "closes", serve: func(net.Conn) {}, fault: "the connection"},
		{name: "closes after the hello", serve: func(conn net.Conn) { _, _ = conn.Read(make([]byte, 4096)) }, fault: "the connection"},
		{name: "an alert", serve: func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "\x15\x03\x03\x00\x02\x02\x28")
			hang(conn)
		}, fault: "TLS handshake failed"},
		{name: "endless records", serve: flood("\x16\x03\x03\x40\x00" + strings.Repeat("\x02\x00\x00\x00", 4096)), fault: "TLS handshake failed"},
		{name: "hangs", serve: hang, late: true},
		{name: "drips its hello", serve: func(conn net.Conn) { drip(conn, "\x16", "\x03", "\x03", "\x40", "\x00") }, late: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			limit := 30 * time.Second
			if tt.late {
				limit = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			to := notifier.Webhook{URL: "https://" + listen(t, tt.serve) + "/", Secrets: []string{testSecret}}
			outcome, err := newClient(t, nil).SendWebhook(ctx, to, testMessage())
			failure := failureOf(t, err)
			if failure.Kind != notifier.Passing || outcome.StatusCode != 0 || errors.Is(err, context.DeadlineExceeded) != tt.late || !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("got %d, %v, want %q", outcome.StatusCode, err, tt.fault)
			}
		})
	}
}

// listen hands every connection to serve at once, and then closes it.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			}()
		}
	}()
	return listener.Addr().String()
}
