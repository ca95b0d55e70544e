package source

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
	"time"

	"golang.org/x/oauth2"
)

const (
	// DefaultTimeout bounds a poll, the response's body included.
	DefaultTimeout = 15 * time.Second

	// DefaultMaxIdle is how many idle connections are kept, enough for as many polls at
	// once: a connection that is not kept has to be made again.
	DefaultMaxIdle = 1024

	// mostRedirects are followed, where any are.
	mostRedirects = 3
)

// Config is what the operator decides. Its zero value is ready to use.
type Config struct {
	// Version goes into the user-agent; empty means dev.
	Version string
	// Timeout bounds a poll, body included; zero means [DefaultTimeout].
	Timeout time.Duration
	// MaxIdle is how many connections are kept; zero means [DefaultMaxIdle].
	MaxIdle int
	// OutOfFiles is told of each poll that failed because no file could be opened; nil tells
	// nobody.
	OutOfFiles func()
	// Now is the clock that dates in headers are compared with; nil means [time.Now].
	Now func() time.Time
}

// Client asks upstreams how operations stand. It sends one request for each poll and never a
// second one, but for redirects that a definition allows: nothing is retried, not even by
// net/http, because every request counts against a budget that its owner shares with others.
// It is safe for concurrent use; one serves all credentials of a process.
type Client struct {
	userAgent  string
	timeout    time.Duration
	now        func() time.Time
	transport  *http.Transport
	tokens     *tokens
	outOfFiles func()
}

// NewClient makes a client.
func NewClient(config Config) *Client {
	now, outOfFiles := config.Now, config.OutOfFiles
	if now == nil {
		now = time.Now
	}
	if outOfFiles == nil {
		outOfFiles = func() {}
	}
	c := &Client{
		userAgent:  "relay/" + cmp.Or(config.Version, "dev"),
		timeout:    cmp.Or(config.Timeout, DefaultTimeout),
		now:        now,
		transport:  newTransport(cmp.Or(config.MaxIdle, DefaultMaxIdle)),
		outOfFiles: outOfFiles,
	}
	c.tokens = &tokens{now: now, kept: map[string]*oauth2.Token{}, client: &http.Client{
		Transport: c.transport, Timeout: c.timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return c
}

// newTransport ignores the environment's proxy, and speaks HTTP/1.1 only: there
// [unrepeatable] holds, and a connection that hangs takes one poll with it, not all.
func newTransport(maxIdle int) *http.Transport {
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
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Close gives the idle connections back. Polls under way are not disturbed.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Poll is a question about one operation.
type Poll struct {
	Source      *Source
	Credential  Credential
	Params      map[string]string
	OperationID string
}

// Poll asks once how the operation stands. It takes at most the client's timeout, or as long
// as ctx lasts; a poll cut short by ctx is Inconclusive. Whatever comes back is an Answer, with
// no error beside it. Without a usable credential, id or parameter nothing is sent.
func (c *Client) Poll(ctx context.Context, p Poll) Answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	x := c.exchange(ctx, p)
	return x.answer.clear(func(s string) string { return p.Credential.Fields.redact(s, x.token) })
}

// exchange is what a poll sent and what came back, with secrets in it.
type exchange struct {
	address  *url.URL // where the first request went, nil if there was none
	header   http.Header
	token    string // that was fetched, "" for none
	response *Response
	answer   Answer
}

func (c *Client) exchange(ctx context.Context, p Poll) (x exchange) {
	u := p.Source.Upstream
	if problem := p.Credential.Fields.problem(u); problem != "" {
		x.answer = Answer{Verdict: Refused, Rule: -1, Problem: problem}
		return x
	}
	if u.Base == "" {
		x.answer = Answer{Verdict: Inconclusive, Rule: -1, Problem: "the relay has no base URL for " + u.Name + ": set RELAY_UPSTREAM_URLS"}
		return x
	}
	address, err := p.Source.URL(p.OperationID, p.Params)
	if err != nil {
		x.answer = Answer{Verdict: NotFound, Rule: -1, Problem: errValues.Error()}
		return x
	}
	var problem *Answer
	if x.header, x.token, problem = c.header(ctx, p); problem != nil {
		x.answer = *problem
		return x
	}
	x.address = address
	resp, requests, err := c.send(ctx, u, address, x.header)
	if err != nil {
		x.answer = Answer{Verdict: Inconclusive, Rule: -1, Problem: "no answer: " + reason(err), Detail: err.Error()}
	} else {
		defer func() { _ = resp.Body.Close() }()
		x.answer, x.response = c.read(p, resp)
	}
	x.answer.Requests = requests
	if x.answer.Verdict == Refused && x.token != "" {
		c.tokens.forget(u, p.Credential, x.token)
	}
	return x
}

// header is what each request of the poll carries, and the token in it that was fetched.
func (c *Client) header(ctx context.Context, p Poll) (h http.Header, token string, problem *Answer) {
	h = http.Header{"Accept": {"application/json"}, "User-Agent": {c.userAgent}}
	for name, value := range p.Source.Upstream.Headers {
		h.Set(name, value)
	}
	auth := p.Credential.Fields.auth(p.Source.Upstream)
	if auth != AuthOAuth2Client && auth != AuthGoogleServiceAccount {
		p.Credential.Fields.authorize(h, auth)
		return h, "", nil
	}
	token, err := c.tokens.get(ctx, p.Source.Upstream, auth, p.Credential)
	switch {
	case errors.Is(err, errRefused):
		return nil, "", &Answer{Verdict: Refused, Rule: -1, Problem: err.Error()}
	case err != nil:
		problem := &Answer{Verdict: Inconclusive, Rule: -1, Problem: "no access token: " + reason(err), Detail: err.Error()}
		if answered, ok := errors.AsType[*tokenAnswerError](err); ok {
			problem.Problem, problem.RetryAfter = answered.Error(), retryAfter(answered.header, c.now())
		}
		return nil, "", problem
	}
	h.Set("Authorization", "Bearer "+token)
	return h, token, nil
}

// send sends the request, and follows redirects where the definition has them followed: to
// the base's own origin. It counts what was sent.
func (c *Client) send(ctx context.Context, u *Upstream, address *url.URL, header http.Header) (
	resp *http.Response, requests int, err error,
) {
	for {
		req := (&http.Request{
			Method: http.MethodGet, URL: address, Host: address.Host, Header: header.Clone(), Body: unrepeatable{},
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		}).WithContext(ctx)
		// The transport, not an http.Client: it follows no redirect by nature, and its errors
		// do not carry the URL.
		requests++
		resp, err = c.transport.RoundTrip(req)
		if err != nil {
			if isOutOfFiles(err) {
				c.outOfFiles()
			}
			return nil, requests, err
		}
		next := redirect(resp, address, u.Base)
		if next == nil || !u.Redirects || requests > mostRedirects {
			return resp, requests, nil
		}
		_ = resp.Body.Close()
		address = next
	}
}

// redirect is where a response leads, nil for nowhere or to another origin.
func redirect(resp *http.Response, from *url.URL, base string) *url.URL {
	location := resp.Header.Get("Location")
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil
	}
	to, err := from.Parse(location)
	if err != nil || location == "" {
		return nil
	}
	if to, err = sameOrigin(base, to.String()); err != nil {
		return nil
	}
	return to
}

func (c *Client) read(p Poll, resp *http.Response) (a Answer, read *Response) {
	u := p.Source.Upstream
	a = Answer{Rule: -1, Verdict: Inconclusive, HTTPStatus: resp.StatusCode}
	read = &Response{Status: resp.StatusCode, Header: resp.Header}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// Its body is a bare connection that no context interrupts.
		a.Problem = "HTTP 101, an unasked switch of protocols"
		return a, read
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(u.MaxBody)+1))
	read.Body = body[:min(len(body), u.MaxBody)]
	success := resp.StatusCode >= 200 && resp.StatusCode < 300
	switch {
	case success && len(body) > u.MaxBody:
		a.Problem = fmt.Sprintf("HTTP %d, the body is too long", resp.StatusCode)
	case success && err != nil:
		a.Problem, a.Detail = fmt.Sprintf("HTTP %d, body cut short: %s", resp.StatusCode, reason(err)), err.Error()
	default:
		a = p.Source.Read(p.OperationID, *read)
	}
	a.RetryAfter = retryAfter(resp.Header, c.now())
	a.Left = u.Quota.left(resp.Header, c.now())
	return a, read
}

// unrepeatable is an empty body that cannot be rewound. net/http repeats a GET when a
// kept-alive connection breaks under it, although the first may have been counted; it does
// not if the body cannot be sent again. The price is that such a poll is inconclusive. On the
// wire the request has no body.
type unrepeatable struct{}

func (unrepeatable) Read([]byte) (int, error) { return 0, io.EOF }
func (unrepeatable) Close() error             { return nil }
