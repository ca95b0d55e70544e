package source

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
)

// reason says in a few words of our own why there was no whole answer. Go's words name
// the addresses of this machine and of its resolver, and quote the other side, while an
// [Answer.Problem] is shown to tenants.
func reason(err error) string {
	var dns *net.DNSError
	var network net.Error
	var errno syscall.Errno
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.Canceled):
		return "the poll was canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the API's host name does not exist"
	case errors.As(err, &dns):
		return "the API's host name could not be resolved"
	case errors.As(err, &network) && network.Timeout():
		return "the connection timed out"
	case errors.As(err, &errno):
		return errno.Error() // names neither side
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed too early"
	case errors.As(err, &certificate):
		return "the API's TLS certificate could not be verified"
	case isTLS(err):
		return "the TLS handshake failed"
	case isCompression(err):
		return "its compression is broken"
	case strings.Contains(unquoted(err), "malformed"), strings.Contains(unquoted(err), "response headers exceeded"):
		return "it is not valid HTTP"
	}
	return "the connection broke"
}

// isOutOfFiles says whether no file could be opened. A DNSError keeps of its cause only the text.
func isOutOfFiles(err error) bool {
	dns, failed := errors.AsType[*net.DNSError](err)
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, errno) || failed && strings.HasSuffix(dns.Err, ": "+errno.Error()) {
			return true
		}
	}
	return false
}

func isTLS(err error) bool {
	var alert tls.AlertError
	var record tls.RecordHeaderError
	return errors.As(err, &alert) || errors.As(err, &record) ||
		strings.Contains(unquoted(err), "tls: ") || strings.Contains(unquoted(err), "HTTP response to HTTPS client")
}

func isCompression(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, &corrupt)
}

// unquoted is what an error says before it begins to quote the other side, which may
// have chosen its words to look like another error.
func unquoted(err error) string {
	text, _, _ := strings.Cut(err.Error(), `"`)
	return text
}
