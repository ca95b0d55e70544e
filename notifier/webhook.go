package notifier

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Webhook is a destination that receives signed HTTP requests. All of it is secret but the URL's host.
type Webhook struct {
	URL     string
	Headers map[string]string // beside the relay's own; see CheckHeaders
	Secrets []string          // whsec_..., newest first; each signs
}

// SendWebhook posts the message's body once, signed by Standard Webhooks 1.0.0, and reads the answer within
// ctx. Any 2xx is success. Every other end is an *[Error]: Gone for 410, RateLimited for 429 and for 502, 503 and 504
// with Retry-After, else Passing. Redirects are not followed.
//
// The timestamp is this machine's. While its clock is wrong by more than receivers tolerate (five minutes, usually),
// they refuse the message, and its retries go out once the clock is right.
func (c *Client) SendWebhook(ctx context.Context, to Webhook, msg Message) (Outcome, error) {
	now := c.now()
	req, err := c.webhookRequest(ctx, to, msg, now)
	if err != nil {
		return Outcome{}, err
	}
	// The transport is used without an http.Client: that would add redirects, and errors that quote the URL.
	resp, err := c.untrusted.RoundTrip(req)
	if err != nil {
		return Outcome{}, c.transportError(ctx, err)
	}
	defer resp.Body.Close()
	body, err := readBody(resp, maxOutcomeBody)
	body = firstBytes(mask(body, to.secrets(req.URL)...))
	outcome := Outcome{StatusCode: resp.StatusCode, Body: body}
	if err != nil && ctx.Err() != nil { // the time ran out while reading the body
		return outcome, transportError(ctx, err, c.within)
	}
	return outcome, webhookVerdict(resp, now)
}

// secrets are what of the request is not to be kept if the answer echoes it: the values of the headers and of the
// URL's query.
func (w Webhook) secrets(u *url.URL) []string {
	all := slices.Collect(maps.Values(w.Headers))
	for _, values := range u.Query() {
		all = append(all, values...)
	}
	return append(all, u.RawQuery)
}

func (c *Client) webhookRequest(ctx context.Context, to Webhook, msg Message, now time.Time) (*http.Request, error) {
	signature, err := signatures(to.Secrets, msg.EventID, now, msg.Body)
	if err != nil {
		return nil, passing("%w", err)
	}
	if faults := CheckHeaders(to.Headers); len(faults) > 0 {
		return nil, passing("the destination's header %q %s", faults[0].Name, faults[0].Detail)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(msg.Body))
	if err != nil {
		return nil, passing("the destination's URL is not valid")
	}
	for name, value := range to.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Webhook-Id", msg.EventID)
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("Webhook-Signature", signature)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Traceparent", traceparent(msg))
	acceptGzip(req)
	return req, nil
}

// traceparent is the message's own or, for one that is part of no trace, starts one (W3C Trace Context, version
// 00, not sampled): all attempts of an event share it, for its id is cut from the hash of the event's, and each
// attempt is a span of its own.
func traceparent(msg Message) string {
	if msg.Traceparent != "" {
		return msg.Traceparent
	}
	const traceBytes, spanBytes = 16, 8
	trace := sha256.Sum256([]byte(msg.EventID))
	span := make([]byte, spanBytes)
	_, _ = rand.Read(span) // never fails: it ends the program instead
	span[0] |= 1           // an id of zeros alone is invalid
	return "00-" + hex.EncodeToString(trace[:traceBytes]) + "-" + hex.EncodeToString(span) + "-00"
}

const (
	secretPrefix   = "whsec_"
	newSecretBytes = 32
	minSecretBytes = 24 // Standard Webhooks 1.0.0, "Signature scheme": 24 to 64 bytes
	maxSecretBytes = 64
)

// NewSecret returns a fresh signing secret: whsec_ and the base64 of 32 random bytes.
func NewSecret() string {
	key := make([]byte, newSecretBytes)
	_, _ = rand.Read(key) // never fails: it ends the program instead
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// CheckSecret says whether a secret brought from elsewhere can sign: whsec_ and the base64 of 24 to 64 bytes.
// The error tells its owner what to do and never holds any of the secret.
func CheckSecret(secret string) error {
	_, err := signingKey(secret)
	return err
}

func signingKey(secret string) ([]byte, error) {
	switch {
	case secret == "":
		return nil, errors.New("is empty")
	case strings.TrimSpace(secret) != secret:
		return nil, errors.New("has white space around it: remove it")
	case strings.HasPrefix(secret, "v1,"):
		return nil, errors.New("begins with v1, which marks a version: remove the v1, so that it begins with whsec_")
	case strings.HasPrefix(secret, "whsk_"), strings.HasPrefix(secret, "whpk_"):
		return nil, errors.New("is a key of the asymmetric scheme: use a symmetric secret, which begins with whsec_")
	case !strings.HasPrefix(secret, secretPrefix):
		return nil, errors.New("does not begin with whsec_: put whsec_ before the base64 of the secret's bytes")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil || strings.ContainsAny(secret, "\r\n") {
		return nil, errors.New("is not base64 after whsec_: use the standard alphabet (+ and /), padded with =")
	}
	if len(key) < minSecretBytes || len(key) > maxSecretBytes {
		return nil, fmt.Errorf("holds %d bytes: it must hold %d to %d", len(key), minSecretBytes, maxSecretBytes)
	}
	return key, nil
}

// signatures is the value of webhook-signature: one "v1,BASE64" per secret, separated by spaces. Each is the
// HMAC-SHA256 of "ID.TIMESTAMP.BODY" (Standard Webhooks 1.0.0, "Signature scheme"). The official library does not
// sign here, so that the tests and the demo prove something by verifying with it.
func signatures(secrets []string, id string, at time.Time, body []byte) (string, error) {
	if len(secrets) == 0 {
		return "", errors.New("the destination has no signing secret")
	}
	signed := make([]string, 0, len(secrets))
	for _, secret := range secrets {
		key, err := signingKey(secret)
		if err != nil {
			return "", fmt.Errorf("the destination's signing secret %w", err)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		signed = append(signed, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signed, " "), nil
}

const (
	maxHeaders     = 32
	maxHeaderName  = 256
	maxHeaderValue = 4096
)

// reservedHeaders are those a destination may not set, beside the prefixes below: the relay writes them, they
// belong to one connection (RFC 9110, section 7.6.1), or they change how net/http sends a request: a request
// with an Idempotency-Key is sent again by itself, and the answer is unpacked by
// the Accept-Encoding that the relay sends. Proxy is what CGI turns into HTTP_PROXY. They are reserved in every spelling of [plainName].
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
