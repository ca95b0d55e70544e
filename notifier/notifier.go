// Package notifier renders a message for its destination, sends it once, and reports what came back.
//
// It speaks to three kinds of destination: webhooks (Standard Webhooks 1.0.0), Slack's incoming webhooks, and
// channels that a Slack bot may post to. It never retries, stores, or knows of queues; what went wrong is in
// its typed [Error], and what to do about it is the caller's decision.
package notifier

import (
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
	// Now dates attempts. Nil means time.Now.
	Now func() time.Time
}

// Client sends messages. It is safe for concurrent use and meant to be shared: its connections are pooled.
type Client struct {
	userAgent string
	slackURL  string
	now       func() time.Time
	untrusted *http.Transport // to URLs that tenants chose
	operator  *http.Transport // to the Slack Web API, whose base the operator chose
}

// New returns a client that has opened no connection yet.
func New(cfg Config) *Client {
	c := &Client{
		userAgent: "relay/dev",
		slackURL:  DefaultSlackURL,
		now:       time.Now,
		untrusted: egress.NewTransport(cfg.Egress),
		operator:  egress.NewOperatorTransport(),
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
