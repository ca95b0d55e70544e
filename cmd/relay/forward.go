package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"oprelay/api/client"
	"oprelay/notifier"
)

const (
	// forwardTimeout is how long a receiver may take, as long as the relay's RELAY_DELIVERY_TIMEOUT is by itself.
	forwardTimeout = 15 * time.Second
	// maxForwarded is how much of an answer is read, so that its connection can be used again.
	maxForwarded = 64 << 10
)

// forwarder posts events to a receiver that is being developed.
type forwarder struct {
	url    string
	shown  string // the URL without a password
	signer *standardwebhooks.Webhook
	client *http.Client
}

// newForwarder tells of the secret if it makes one.
func newForwarder(target, secret string, told *progress) (*forwarder, error) {
	u, err := url.Parse(target)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("--forward-to: want an http or https URL, such as http://127.0.0.1:3000/webhooks")
	}
	if secret == "" {
		secret = notifier.NewSecret()
		told.say("The webhooks are signed with " + secret)
	}
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("--secret: %w", err)
	}
	return &forwarder{url: target, shown: u.Redacted(), signer: signer, client: &http.Client{
		Timeout:       forwardTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// post sends the event once and says what came of it.
func (f *forwarder) post(ctx context.Context, event client.Event) string {
	sent := time.Now()
	status, err := f.send(ctx, event, sent)
	took := time.Since(sent).Round(time.Millisecond)
	if err != nil {
		return fmt.Sprintf("  -> %s: not delivered: %s", f.shown, plain(err.Error()))
	}
	return fmt.Sprintf("  -> %s: %d %s in %s", f.shown, status, http.StatusText(status), took)
}

func (f *forwarder) send(ctx context.Context, event client.Event, now time.Time) (status int, err error) {
	signature, err := f.signer.Sign(event.ID, now, event.Body)
	if err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(event.Body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Webhook-Id", event.ID)
	r.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("Webhook-Signature", signature)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", userAgent())
	response, err := f.client.Do(r)
	if timeout := (*url.Error)(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return 0, fmt.Errorf("no answer within %s", forwardTimeout)
	}
	if err != nil {
		return 0, reasonOf(ctx, err)
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, maxForwarded) // the status alone counts
	return response.StatusCode, nil
}
