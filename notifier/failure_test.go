package notifier

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"oprelay/notifier/egress"
)

func TestTransportErrorsInOurWords(t *testing.T) {
	t.Parallel()
	inTLS := func(err error) error { return &tls.CertificateVerificationError{Err: err} }
	tests := []struct {
		err  error
		want string
	}{
		{&net.DNSError{Err: "no such host", Name: "MARKER", IsNotFound: true}, "no such host"},
		{&net.DNSError{Err: "server misbehaving", Name: "MARKER"}, "could not be resolved"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, "connection refused"},
		{&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, "connection reset"},
		{&net.OpError{Op: "dial", Err: &egress.ForbiddenError{Why: "loopback"}}, "not at a public address (loopback)"},
		{inTLS(x509.CertificateInvalidError{Reason: x509.Expired, Detail: "x"}), "has expired"},
		{inTLS(x509.UnknownAuthorityError{}), "unknown authority"},
		{inTLS(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "MARKER"}), "for another host"},
		{inTLS(errors.New("MARKER")), "could not be verified"},
		{tls.AlertError(40), "handshake failure"},
		{errors.New("tls: MARKER"), "TLS handshake failed"},
		{errors.New("http: server gave HTTP response to HTTPS client"), "does not speak TLS"},
		{context.DeadlineExceeded, "no complete answer within 1m30s"},
		{io.ErrUnexpectedEOF, "closed before the answer was complete"},
		{errors.New("net/http: server response headers exceeded 65536 bytes; aborted"), "headers are too large"},
		{errors.New(`malformed HTTP version "MARKER"`), "not valid HTTP"},
		{errors.New("MARKER"), "broke before a valid answer"},
	}
	for _, tt := range tests {
		for _, err := range []error{tt.err, fmt.Errorf("a: %w", tt.err), &url.Error{Op: "Post", URL: "http://MARKER/tls: ", Err: tt.err}} {
			got := transportError(t.Context(), err, 90*time.Second)
			if text := got.Error(); got.Kind != Passing || !strings.Contains(text, tt.want) || strings.Contains(text, "MARKER") || strings.Contains(text, "context") {
				t.Errorf("%v: got %q, want %q", err, text, tt.want)
			}
		}
	}
}

func TestKindNames(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind]string{
		Passing: "passing", Rejected: "rejected", Gone: "gone", RateLimited: "rate limited", Own: "own trouble", 9: "kind 9",
	} {
		if got := kind.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
