// Package notifier renders a message for its destination, sends it once, and reports what came back.
//
// It speaks to three kinds of destination: webhooks (Standard Webhooks 1.0.0), Slack's incoming webhooks, and
// channels that a Slack bot may post to. It never retries, stores, or knows of queues; what went wrong is in
// its typed [Error], and what to do about it is the caller's decision.
package notifier

import (
	"cmp"
	"net"
	"net/http"
	"strings"
	"time"

	"oprelay/notifier/egress"
)

// DefaultSlackURL is the base of Slack's Web API.
const DefaultSlackURL = "https://slack.com/api/"

// Config is what a [Client] is built from. Every field has a working zero value.
type Config struct {
	// Version ends the user-agent: relay/VERSION. Empty means dev.
	Version string
	// Egress bounds the addresses that webhooks and incoming webhooks may reach.
	Egress egress.Policy
	// SlackURL is the base of the Slack Web API, with or without its last slash. Empty means DefaultSlackURL.
	SlackURL string
	// Timeout is what the contexts of sends give one attempt, the answer's body included: the limits of its parts
	// follow from it. 0 means egress.DefaultWithin.
	Timeout time.Duration
	// Resolver looks up hosts' names. Nil means the system's.
	Resolver *net.Resolver
	// MaxIdle is how many connections may wait for reuse: to Slack's Web API, and to all else. 0 means
	// egress.DefaultMaxIdle.
	MaxIdle int
	// OutOfFiles is told of each send that failed because no file could be opened. Nil tells nobody.
	OutOfFiles func()
	// Now dates attempts. Nil means time.Now.
	Now func() time.Time
}

// Client sends messages. It is safe for concurrent use and meant to be shared: its connections are pooled.
type Client struct {
	userAgent  string
	slackURL   string
	within     time.Duration // what one attempt has
	now        func() time.Time
	untrusted  *http.Transport // to URLs that tenants chose
	operator   *http.Transport // to the Slack Web API, whose base the operator chose
	host       *egress.Host
	outOfFiles func()
}

// New returns a client that has opened no connection yet.
func New(cfg Config) *Client {
	dialing := egress.Dialing{Within: cfg.Timeout, Resolver: cfg.Resolver, MaxIdle: cfg.MaxIdle}
	c := &Client{
		userAgent:  "relay/dev",
		slackURL:   DefaultSlackURL,
		within:     cmp.Or(cfg.Timeout, egress.DefaultWithin),
		now:        time.Now,
		untrusted:  egress.NewTransport(cfg.Egress, dialing),
		operator:   egress.NewOperatorTransport(dialing),
		host:       egress.NewHost(dialing),
		outOfFiles: func() {},
	}
	if cfg.Version != "" {
		c.userAgent = "relay/" + cfg.Version
	}
	if cfg.SlackURL != "" {
		c.slackURL = strings.TrimRight(cfg.SlackURL, "/") + "/"
	}
	if cfg.Now != nil {
		c.now = cfg.Now
	}
	if cfg.OutOfFiles != nil {
		c.outOfFiles = cfg.OutOfFiles
	}
	return c
}

// Close drops the connections that wait for reuse. Sends under way are not disturbed.
func (c *Client) Close() {
	c.untrusted.CloseIdleConnections()
	c.operator.CloseIdleConnections()
}

// Message is one event on its way to one destination.
type Message struct {
	EventID string // the webhook-id, the same for every attempt
	Type    string // the event's type, such as operation.failed
	Body    []byte // what a webhook carries, byte for byte
	Facts   Facts  // what a Slack message tells
	// Traceparent is the W3C trace context of a webhook; without one each event is a trace of its own.
	Traceparent string
}

// Outcome is what came back from one attempt, accepted or not.
type Outcome struct {
	StatusCode int      // 0 if there was no answer
	Body       []byte   // the first 4 KiB of the answer after decompression; any bytes, not always UTF-8
	Slack      SlackRef // the message that now stands in the channel; only from SendSlackBot
}

// SlackRef names one message in a Slack workspace.
type SlackRef struct {
	Channel string // Slack's id of the channel, such as C0123456789
	TS      string // Slack's id of the message in that channel, such as 1700000000.000100
}

// IsZero reports whether the reference names no message.
func (r SlackRef) IsZero() bool { return r.Channel == "" || r.TS == "" }

// Facts is what a person reads about an event or about a watch's progress. Strings may hold anything: the
// rendering escapes and cuts them.
type Facts struct {
	Type        string // the event's type; empty for a progress update
	Status      string // watching, pending, running, completed, failed, expired, unobservable or canceled
	WatchID     string
	Name        string            // the watch's, for people; may be empty
	Source      string            // such as cloudflare.lists
	Params      map[string]string // what the source asks for beside the id, such as account_id
	OperationID string
	Error       string // the upstream's message about a failed operation
	Reason      string // deadline, not_found or credential_rejected
	StartedAt   time.Time
	EndedAt     time.Time // zero while the operation goes on
	Polls       int
	Metadata    map[string]string
	Link        string // the watch's page in the console; empty if there is none

	// Alert, if set, is told instead of an operation: destination.disabled, credential.rejected,
	// delivery.failed, destination.test.
	Alert *Alert
	// Digest, if set, is told instead of all else.
	Digest *Digest
}

// Digest is many messages in one.
type Digest struct {
	Counts []Count // the most urgent first
	First  []Facts // the most urgent, each told in a line; of an alert, Error says why
	Link   string  // the console's list of all; empty if there is none
}

// Count is how many of a digest's messages came to a result.
type Count struct {
	Status string // as in Facts, or CountAlert or CountTest
	N      int
	Link   string // the console's list of these; empty if there is none
}

// What a digest counts beside the ends of operations.
const (
	CountAlert = "alert"
	CountTest  = "test"
)

// Alert is news about the relay's own set-up rather than about an operation.
type Alert struct {
	Title  string
	Text   string
	Fields []Field
}

// Field is one named value of an [Alert].
type Field struct {
	Name  string
	Value string
}
