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
	"time"

	"oprelay/notifier/egress"
)

// Kind says what a failed attempt means for its destination.
type Kind int

// The kinds of failure.
const (
	Passing     Kind = iota // may go well later
	Rejected                // Slack refuses this token or channel for good: disable as "rejected"
	Gone                    // the receiver is no more: disable as "gone"
	RateLimited             // it asks for a pause: 429, or 502, 503 or 504 with Retry-After
	Own                     // this machine could not send it: nothing is wrong with the destination
)

// String names the kind for logs.
func (k Kind) String() string {
	switch k {
	case Passing:
		return "passing"
	case Rejected:
		return "rejected"
	case Gone:
		return "gone"
	case RateLimited:
		return "rate limited"
	case Own:
		return "own trouble"
	default:
		return fmt.Sprintf("kind %d", int(k))
	}
}

// Error is the error of every failed send. Neither its text nor anything it wraps holds a secret, a header's
// value or a URL, so it may be logged and shown to the destination's owner. It wraps context.Canceled,
// context.DeadlineExceeded or egress.ErrForbidden where that was the cause.
type Error struct {
	Kind       Kind
	RetryAfter time.Duration // how long the receiver asks to wait, at most 24 h; 0 = it does not say
	Err        error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// passing is an Error that may go well later.
func passing(format string, args ...any) *Error {
	return &Error{Kind: Passing, Err: fmt.Errorf(format, args...)}
}

// transportError tells why no answer came, and whether that was the other side's doing.
func (c *Client) transportError(ctx context.Context, err error) *Error {
	if egress.OutOfFiles(err) {
		c.outOfFiles()
	}
	if why := c.host.Trouble(ctx, err); why != "" {
		return &Error{Kind: Own, Err: errors.New(why)}
	}
	return transportError(ctx, err, c.within)
}

// worded is a cause in words of our own, for people.
type worded struct {
	text  string
	cause error
}

func (w worded) Error() string { return w.text }

func (w worded) Unwrap() error { return w.cause }

// transportError tells why no answer came, in words of our own: the texts of net/http quote URLs, and quote
// what the other side sent, which may be our own request echoed. The attempt had as long as within says.
func transportError(ctx context.Context, err error, within time.Duration) *Error {
	if cause := ctx.Err(); cause != nil {
		err = cause
	}
	if quoting, is := errors.AsType[*url.Error](err); is {
		err = quoting.Err
	}
	var forbidden *egress.ForbiddenError
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Kind: Passing, Err: worded{fmt.Sprintf("no complete answer within %v", within), context.DeadlineExceeded}}
	case errors.Is(err, context.Canceled):
		return &Error{Kind: Passing, Err: worded{"the send was interrupted", context.Canceled}}
	case errors.As(err, &forbidden):
		return passing("the destination is not at a public address (%s): %w", forbidden.Why, egress.ErrForbidden)
	case errors.As(err, &dns) && dns.IsNotFound:
		return passing("the host's name does not resolve: no such host")
	case errors.As(err, &dns):
		return passing("the host's name could not be resolved")
	}
	if text := tlsFailure(err); text != "" {
		return passing("%s", text)
	}
	return passing("%s", connectionFailure(err))
}

// tlsFailure describes a failed handshake, or returns "". The texts of x509 name hosts and dates only.
func tlsFailure(err error) string {
	var verification *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &verification):
		var invalid x509.CertificateInvalidError
		var authority x509.UnknownAuthorityError
		var hostname x509.HostnameError
		switch {
		case errors.As(err, &invalid):
			return "the TLS certificate is not valid: " + invalid.Error()
		case errors.As(err, &authority):
			return "the TLS certificate is signed by an unknown authority"
		case errors.As(err, &hostname):
			return "the TLS certificate is for another host"
		}
		return "the TLS certificate could not be verified"
	case errors.As(err, &alert):
		return "the TLS handshake failed: " + alert.Error()
	case errors.As(err, &record), strings.Contains(unquoted(err), "HTTP response to HTTPS client"):
		return "the receiver does not speak TLS on this port"
	case strings.Contains(unquoted(err), "tls: "):
		return "the TLS handshake failed"
	}
	return ""
}

// connectionFailure describes what happened on the wire.
func connectionFailure(err error) string {
	var errno syscall.Errno
	var network net.Error
	switch {
	case errors.As(err, &network) && network.Timeout():
		return "the connection timed out"
	case errors.As(err, &errno):
		return "the connection failed: " + errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before the answer was complete"
	case strings.Contains(unquoted(err), "response headers exceeded"):
		return "the answer's headers are too large"
	case strings.Contains(unquoted(err), "malformed"), strings.Contains(unquoted(err), "transport connection broken"):
		return "the answer is not valid HTTP"
	default:
		return "the connection broke before a valid answer"
	}
}

// unquoted is what an error says before it begins to quote the other side, which may have chosen its words to
// look like another error.
func unquoted(err error) string {
	text, _, _ := strings.Cut(err.Error(), `"`)
	return text
}
