package notifier

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	maxHeaders     = 32
	maxHeaderName  = 256
	maxHeaderValue = 4096
)

// reservedHeaders are those a destination may not set, beside the prefixes below: the relay writes them, they
// belong to one connection (RFC 9110, section 7.6.1), or they change how net/http sends a request: a request
// with an Idempotency-Key is sent again by itself, and with an Accept-Encoding of our own the answer is not
// decompressed. Proxy is what CGI turns into HTTP_PROXY. They are reserved in every spelling of [plainName].
//
//nolint:gochecknoglobals // a constant that Go cannot declare as one
var reservedHeaders = []string{
	"accept-encoding", "connection", "date", "expect", "host", "http2-settings", "idempotency-key", "keep-alive",
	"proxy", "te", "traceparent", "tracestate", "trailer", "trailers", "transfer-encoding", "upgrade", "user-agent",
	"x-idempotency-key",
}

//nolint:gochecknoglobals // a constant that Go cannot declare as one
var reservedPrefixes = []string{"webhook-", "content-", "proxy-", ":"}

// HeaderFault says what is wrong with one of a destination's headers. It never holds the header's value.
type HeaderFault struct {
	Name   string // as given
	Detail string
}

// CheckHeaders lists what is wrong with the headers that a destination asks for, in the order of their names.
// The same rules hold again at every send.
func CheckHeaders(headers map[string]string) []HeaderFault {
	var faults []HeaderFault
	seen := make(map[string]string, len(headers))
	for i, name := range slices.Sorted(maps.Keys(headers)) {
		detail := headerFault(name, headers[name])
		folded := plainName(name)
		if first, twice := seen[folded]; twice && detail == "" {
			detail = fmt.Sprintf("is given twice, also as %q: to many receivers both are the same name", first)
		}
		if i >= maxHeaders && detail == "" {
			detail = fmt.Sprintf("is one too many: at most %d headers", maxHeaders)
		}
		seen[folded] = name
		if detail != "" {
			faults = append(faults, HeaderFault{Name: name, Detail: detail})
		}
	}
	return faults
}

// plainName is a header's name as the receivers see it that turn headers into variables (CGI, RFC 3875, section
// 4.1.18, and its heirs): to them Webhook_Id and Webhook.Id are Webhook-Id too.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ':', 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, name)
}

func headerFault(name, value string) string {
	folded := plainName(name)
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(folded, prefix) {
			return "is set by the relay or belongs to the connection: no name may begin with " + prefix
		}
	}
	switch {
	case name == "" || strings.ContainsFunc(name, notInToken):
		return "is not a valid header name: use letters, digits and hyphens"
	case len(name) > maxHeaderName:
		return fmt.Sprintf("has a name longer than %d bytes", maxHeaderName)
	case slices.Contains(reservedHeaders, folded):
		return "is set by the relay or belongs to the connection: remove it"
	case strings.ContainsAny(value, "\r\n"):
		return "has a value with a line break: remove it"
	case strings.ContainsFunc(value, func(r rune) bool { return (r < ' ' && r != '\t') || r > '~' }):
		return "has a value with characters other than printable ASCII: encode it"
	case len(value) > maxHeaderValue:
		return fmt.Sprintf("has a value longer than %d bytes", maxHeaderValue)
	}
	return ""
}

// notInToken is the complement of tchar in RFC 9110, section 5.6.2.
func notInToken(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
