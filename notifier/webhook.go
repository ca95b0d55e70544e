package notifier

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Webhook is a destination that receives signed HTTP requests. All of it is secret but the URL's host.
type Webhook struct {
	URL     string
	Headers map[string]string // beside the relay's own; see CheckHeaders
	Secrets []string          // whsec_..., newest first; each signs
}

// SendWebhook posts the message's body once, signed by Standard Webhooks 1.0.0, and reads the answer within
// ctx. Any 2xx is success. Every other end is an *[Error]: Gone for 410, else Passing, with RetryAfter from a
// 429, 502, 503 or 504. Redirects are not followed.
func (c *Client) SendWebhook(ctx context.Context, to Webhook, msg Message) (Outcome, error) {
	now := c.now()
	req, err := c.webhookRequest(ctx, to, msg, now)
	if err != nil {
		return Outcome{}, err
	}
	// The transport is used without an http.Client: that would add redirects, and errors that quote the URL.
	resp, err := c.untrusted.RoundTrip(req)
	if err != nil {
		return Outcome{}, transportError(ctx, err)
	}
	defer resp.Body.Close()
	body, err := readBody(resp, maxOutcomeBody)
	body = firstBytes(mask(body, to.secrets(req.URL)...))
	return Outcome{StatusCode: resp.StatusCode, Body: body}, webhookVerdict(ctx, resp, err, now)
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
