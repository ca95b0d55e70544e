// Package webhooktest is a receiver of webhooks for tests and demonstrations.
//
// It is written from the receiver's side alone: it verifies with the official Standard Webhooks library and
// shares no code with the sender. It needs no testing package, so programs may use it too.
package webhooktest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// maxBody bounds what one arrival may hold.
const maxBody = 8 << 20

// ErrNotTrusted is an arrival's Err while the receiver knows no secret.
var ErrNotTrusted = errors.New("the receiver was given no secret to verify with")

// Arrival is one request that came in.
type Arrival struct {
	ID      string // webhook-id
	Attempt int    // 1 for the first request with this id
	Method  string
	Path    string
	Header  http.Header
	Body    []byte
	At      time.Time
	Err     error // why it did not verify; nil if it did
	Status  int   // what it was answered; 0 for one left hanging
}

// Answer is how the receiver replies. The zero value is 204 without a body.
type Answer struct {
	Status     int
	RetryAfter string // seconds or an HTTP date
	Location   string // for redirects
	Body       []byte
	Hang       bool // never answer: hold the request until its sender gives up
}

// Script decides the answer to an arrival. Arrival.Status is not yet set.
type Script func(Arrival) Answer

// Receiver is an http.Handler that records, verifies and answers. It is safe for concurrent use.
type Receiver struct {
	mu       sync.Mutex
	secrets  []string
	anyTime  bool
	script   Script
	arrivals []Arrival
	changed  chan struct{} // closed and replaced at every arrival
}

// New returns a receiver that trusts the given secrets (whsec_...) and accepts everything.
func New(secrets ...string) *Receiver {
	return &Receiver{
		secrets: secrets,
		script:  Always(Answer{}),
		changed: make(chan struct{}),
	}
}

// Trust replaces the secrets that later arrivals are verified with.
func (r *Receiver) Trust(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = slices.Clone(secrets)
}

// AllowAnyTime has later arrivals verified whatever their timestamp, as for a sender whose clock is wrong.
func (r *Receiver) AllowAnyTime() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.anyTime = true
}

// Respond replaces the script that later arrivals are answered by.
func (r *Receiver) Respond(script Script) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = script
}

// Arrivals returns what came in so far, oldest first.
func (r *Receiver) Arrivals() []Arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.arrivals)
}

// Wait returns the arrivals as soon as done says so of them, or the context's error and what came in until then.
func (r *Receiver) Wait(ctx context.Context, done func([]Arrival) bool) ([]Arrival, error) {
	for {
		r.mu.Lock()
		arrivals, changed := slices.Clone(r.arrivals), r.changed
		r.mu.Unlock()
		if done(arrivals) {
			return arrivals, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return arrivals, ctx.Err()
		}
	}
}

// ServeHTTP takes one message in. It is recorded before it is answered.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	answer := r.record(Arrival{
		ID:     req.Header.Get("Webhook-Id"),
		Method: req.Method,
		Path:   req.URL.Path,
		Header: req.Header.Clone(),
		Body:   bytes.Clone(body),
		At:     time.Now().UTC(),
	})
	if answer.Hang {
		<-req.Context().Done()
		return
	}
	if answer.RetryAfter != "" {
		w.Header().Set("Retry-After", answer.RetryAfter)
	}
	if answer.Location != "" {
		w.Header().Set("Location", answer.Location)
	}
	if answer.Body != nil {
		w.Header().Set("Content-Length", strconv.Itoa(len(answer.Body)))
	}
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body) // the sender may be gone; that is its own affair
}

func (r *Receiver) record(a Arrival) Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.Attempt = 1
	for _, earlier := range r.arrivals {
		if earlier.ID == a.ID {
			a.Attempt++
		}
	}
	a.Err = r.verify(a)
	answer := r.script(a)
	if answer.Status == 0 && !answer.Hang {
		answer.Status = http.StatusNoContent
	}
	if !answer.Hang {
		a.Status = answer.Status
	}
	r.arrivals = append(r.arrivals, a)
	close(r.changed)
	r.changed = make(chan struct{})
	return answer
}

// verify accepts what any of the secrets verifies.
func (r *Receiver) verify(a Arrival) error {
	err := ErrNotTrusted
	for _, secret := range r.secrets {
		var webhook *standardwebhooks.Webhook
		if webhook, err = standardwebhooks.NewWebhook(secret); err != nil {
			continue
		}
		verify := webhook.Verify
		if r.anyTime {
			verify = webhook.VerifyIgnoringTimestamp
		}
		if err = verify(a.Body, a.Header); err == nil {
			return nil
		}
	}
	return err
}
