// Package slacktest stands in for Slack's HTTP API in tests and demonstrations.
//
// It serves chat.postMessage and chat.update under /api/ and one incoming webhook at [WebhookPath], holds
// messages against Slack's published limits, and keeps them with the history of their edits. It is written
// from Slack's documentation and shares no code with the sender. It needs no testing package.
package slacktest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Where the parts of the server are.
const (
	APIPath     = "/api/" // the base for a bot's calls: SERVER + APIPath
	WebhookPath = "/services/T00000000/B00000000/standin"
)

// maxBody bounds one request.
const maxBody = 1 << 20

// Version is one state of a message.
type Version struct {
	Text   string
	Blocks json.RawMessage // the JSON array as it came; nil if there was none
	At     time.Time
}

// Message is one message in a channel.
type Message struct {
	Channel string // "incoming-webhook" for those that came through WebhookPath
	TS      string
	Version           // as it stands now
	History []Version // what it was before, oldest first
}

// Failure is an answer other than success.
type Failure struct {
	Status     int    // HTTP status; 0 means 200
	Error      string // the code of an API answer with ok:false, or the text of an incoming webhook's answer
	RetryAfter string // for 429
	Body       string // sent as it is instead of an answer of Slack's form
	Hang       bool   // never answer: hold the request until its sender gives up
}

// Options configure a server. The zero value takes any token and any channel.
type Options struct {
	Token    string   // the only token accepted; empty = any but the empty one
	Channels []string // the channels that exist; empty = all
}

// Server is an http.Handler. It is safe for concurrent use.
type Server struct {
	mux  *http.ServeMux
	opts Options

	mu       sync.Mutex
	messages []*Message
	failures []Failure
	requests int
	lastTS   int64
	changed  chan struct{} // closed and replaced whenever the messages change
}

// New returns a server without messages.
func New(opts Options) *Server {
	s := &Server{mux: http.NewServeMux(), opts: opts, changed: make(chan struct{})}
	s.mux.HandleFunc("POST "+APIPath+"chat.postMessage", s.api(s.post))
	s.mux.HandleFunc("POST "+APIPath+"chat.update", s.api(s.update))
	s.mux.HandleFunc("POST "+WebhookPath, s.webhook)
	return s
}

// ServeHTTP answers as Slack would, unless FailNext has something else in store.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if failure, failing := s.nextFailure(); failing {
		failure.serve(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// FailNext gives the next n requests the failure, after those already in store.
func (s *Server) FailNext(n int, failure Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, slices.Repeat([]Failure{failure}, n)...)
}

// Requests returns how many requests came in, refused ones too.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Messages returns the messages as they stand, oldest first.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot()
}

// Forget removes a message, as its deletion in Slack would. It reports whether there was one.
func (s *Server) Forget(channel, ts string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.messages)
	s.messages = slices.DeleteFunc(s.messages, func(m *Message) bool { return m.Channel == channel && m.TS == ts })
	return len(s.messages) < before
}

// Wait returns the messages as soon as done says so of them, or the context's error and how they stood then.
func (s *Server) Wait(ctx context.Context, done func([]Message) bool) ([]Message, error) {
	for {
		s.mu.Lock()
		messages, changed := s.snapshot(), s.changed
		s.mu.Unlock()
		if done(messages) {
			return messages, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return messages, ctx.Err()
		}
	}
}

func (s *Server) snapshot() []Message {
	messages := make([]Message, 0, len(s.messages))
	for _, m := range s.messages {
		message := *m
		message.History = slices.Clone(m.History)
		messages = append(messages, message)
	}
	return messages
}

func (s *Server) nextFailure() (Failure, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if len(s.failures) == 0 {
		return Failure{}, false
	}
	failure := s.failures[0]
	s.failures = s.failures[1:]
	return failure, true
}

func (f Failure) serve(w http.ResponseWriter, r *http.Request) {
	if f.Hang {
		_, _ = io.Copy(io.Discard, r.Body) // net/http notices that the sender is gone only after that
		<-r.Context().Done()
		return
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	status := max(f.Status, 0)
	if status == 0 {
		status = http.StatusOK
	}
	switch {
	case f.Body != "" || f.Error == "":
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, f.Body)
	case r.URL.Path == WebhookPath:
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, f.Error)
	default:
		writeJSON(w, status, map[string]any{"ok": false, "error": f.Error})
	}
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) //nolint:errchkjson // the sender may be gone; that is its own affair
}

// add keeps a new message. Slack's ts is a time in microseconds, unique in its channel.
func (s *Server) add(channel string, version Version) Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastTS = max(s.lastTS+1, version.At.UnixMicro())
	const microseconds = 1_000_000
	ts := strconv.FormatInt(s.lastTS/microseconds, 10) + fmt.Sprintf(".%06d", s.lastTS%microseconds)
	message := &Message{Channel: channel, TS: ts, Version: version}
	s.messages = append(s.messages, message)
	s.announce()
	return *message
}

// edit changes a message, or reports that there is none.
func (s *Server) edit(channel, ts string, version Version) (Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages {
		if m.Channel == channel && m.TS == ts {
			m.History = append(m.History, m.Version)
			m.Version = version
			s.announce()
			return *m, true
		}
	}
	return Message{}, false
}

func (s *Server) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}
