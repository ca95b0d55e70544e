// Package cloudflare asks Cloudflare how a Lists bulk operation stands.
//
// A [Client] sends one request per poll and never a second one: no redirect is
// followed and nothing is retried, not even by net/http, because every request
// counts against a budget that its owner shares with the dashboard. Whatever
// comes back becomes an [Answer]; there is no error to handle beside it.
package cloudflare

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// DefaultBaseURL is Cloudflare's API.
	DefaultBaseURL = "https://api.cloudflare.com/client/v4"

	// DefaultTimeout bounds a poll, the response's body included.
	DefaultTimeout = 15 * time.Second

	// maxBody is far more than any honest answer, counted after decompression.
	maxBody = 64 << 10

	// maxIdle is how many connections are kept: as many as polls are under way when
	// many credentials are polled at once, for each that is not kept is made anew.
	maxIdle = 1024
)

// Config is what the operator decides. Its zero value is ready to use.
type Config struct {
	// BaseURL is where /accounts/... begins; empty means [DefaultBaseURL].
	BaseURL string
	// Version goes into the user-agent; empty means dev.
	Version string
	// Timeout bounds a poll, body included; zero means [DefaultTimeout].
	Timeout time.Duration
	// Now is the clock that dates in Retry-After are compared with; nil means
	// [time.Now].
	Now func() time.Time
}

// Client polls the status endpoint. It is safe for concurrent use; one serves
// all credentials of a process over one pool of connections.
type Client struct {
	baseURL   string
	userAgent string
	timeout   time.Duration
	now       func() time.Time
	transport *http.Transport
}

// New makes a client.
func New(config Config) *Client {
	now := config.Now
	if now == nil {
		now = time.Now
	}
	return &Client{
		baseURL:   strings.TrimRight(cmp.Or(config.BaseURL, DefaultBaseURL), "/"),
		userAgent: "relay/" + cmp.Or(config.Version, "dev"),
		timeout:   cmp.Or(config.Timeout, DefaultTimeout),
		now:       now,
		transport: newTransport(),
	}
}

// newTransport ignores the environment's proxy, and speaks HTTP/1.1 only: there
// [unrepeatable] holds, and a connection that hangs takes one poll with it, not all.
func newTransport() *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		Protocols:              &protocols,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle, // there is one host
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Close gives the idle connections back. Polls under way are not disturbed.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Poll asks once how the operation stands. It takes at most the client's
// timeout, or as long as ctx lasts; a poll cut short by ctx is Inconclusive.
// Without a usable credential or id nothing is sent.
func (c *Client) Poll(ctx context.Context, cred Credential, accountID, operationID string) Answer {
	return c.poll(ctx, cred, accountID, operationID).clear(cred)
}

func (c *Client) poll(ctx context.Context, cred Credential, accountID, operationID string) Answer {
	if problem := cred.problem(); problem != "" {
		return Answer{Outcome: Refused, Problem: problem}
	}
	if isDotSegment(accountID) || isDotSegment(operationID) {
		return Answer{Outcome: NotFound, Problem: "the account id or the operation id cannot be part of a URL"}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	req, err := c.newRequest(ctx, cred, accountID, operationID)
	if err != nil {
		return Answer{Outcome: Inconclusive, Problem: "the base URL is malformed"}
	}
	// The transport, not an http.Client: it follows no redirect by nature, and its
	// errors do not carry the URL.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return Answer{Outcome: Inconclusive, Problem: "no answer: " + reason(err)}
	}
	defer func() { _ = resp.Body.Close() }()

	var answer Answer
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// Its body is a bare connection that no context interrupts.
		answer = Answer{Outcome: Inconclusive, Problem: "HTTP 101, an unasked switch of protocols"}
	} else {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
		answer = classify(resp, body, err, operationID)
	}
	answer.HTTPStatus = resp.StatusCode
	answer.RetryAfter = retryAfter(resp.Header, c.now())
	answer.Quota = quota(resp.Header)
	return answer
}

func (c *Client) newRequest(ctx context.Context, cred Credential, accountID, operationID string) (*http.Request, error) {
	address := c.baseURL + "/accounts/" + url.PathEscape(accountID) +
		"/rules/lists/bulk_operations/" + url.PathEscape(operationID)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("request for operation %s: %w", operationID, err)
	}
	req.Body = unrepeatable{}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	cred.authorize(req.Header)
	return req, nil
}

// unrepeatable is an empty body that cannot be had again. net/http sends a GET
// a second time when a kept-alive connection breaks under the first, which may
// have been counted already; it does not if there is a body it cannot rewind.
// On the wire the request has no body.
type unrepeatable struct{}

func (unrepeatable) Read([]byte) (int, error) { return 0, io.EOF }
func (unrepeatable) Close() error             { return nil }

// classify decides by the status first, and trusts the body only under 200.
func classify(resp *http.Response, body []byte, readErr error, operationID string) Answer {
	if resp.StatusCode == http.StatusOK {
		switch {
		case len(body) > maxBody:
			return Answer{Outcome: Inconclusive, Problem: "HTTP 200, body over 64 KiB"}
		case readErr != nil:
			return Answer{Outcome: Inconclusive, Problem: "HTTP 200, body cut short: " + reason(readErr)}
		}
		return decodeResult(body, operationID)
	}
	return Answer{
		Outcome: outcomeOf(resp.StatusCode, body),
		Problem: problemOf(resp.StatusCode, body),
	}
}

// outcomeOf maps a status other than 200. Cloudflare also answers 400 to a
// credential that is malformed (6003, with 6111 in its chain) and to a path it
// cannot route (7000, 7003), so for 400 alone the codes decide.
func outcomeOf(status int, body []byte) Outcome {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return Refused
	case http.StatusNotFound:
		return NotFound
	case http.StatusTooManyRequests:
		return RateLimited
	case http.StatusBadRequest:
		env, _ := decodeEnvelope(body)
		if env.hasCode(6003, 6111) {
			return Refused
		}
		if env.hasCode(7000, 7003) {
			return NotFound
		}
	}
	return Inconclusive
}

func problemOf(status int, body []byte) string {
	if status >= 300 && status < 400 {
		return fmt.Sprintf("HTTP %d, a redirect, which is never followed", status)
	}
	if env, ok := decodeEnvelope(body); ok {
		return fmt.Sprintf("HTTP %d%s", status, listErrors(": ", env.Errors))
	}
	return fmt.Sprintf("HTTP %d, %s", status, describe(body))
}

// reason says in a few words why there was no whole answer.
func reason(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "the poll was canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long"
	}
	return err.Error()
}

// isDotSegment reports ids that no escaping keeps from naming another path.
func isDotSegment(id string) bool { return id == "" || id == "." || id == ".." }
