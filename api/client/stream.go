package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxMessage bounds a message of a stream, and each of its lines.
	maxMessage = 1 << 20
	// maxProblem bounds what is read of a refusal.
	maxProblem = 64 << 10
	// streamSilence is how long a stream may send nothing, not even the comment that the relay
	// sends every 15 seconds, until its connection counts as dead.
	streamSilence = 45 * time.Second
)

var (
	// ErrSilent says that nothing has come on a stream for so long that its connection must be dead.
	ErrSilent = errors.New("nothing comes on the stream, not even its comments")
	// ErrMessageTooLong says that a stream has sent a message of more than 1 MiB.
	ErrMessageTooLong = errors.New("a message of the stream is over 1 MiB")
)

// RefusedError is the answer to a request for a stream that was not granted.
type RefusedError struct {
	Status     int
	Problem    Problem       // zero if the answer was not the relay's
	RetryAfter time.Duration // 0 if the answer does not say
}

func (e *RefusedError) Error() string {
	if e.Problem.Title == "" {
		return fmt.Sprintf("no stream: status %d", e.Status)
	}
	return fmt.Sprintf("no stream: status %d: %s: %s", e.Status, e.Problem.Title, e.Problem.Detail)
}

// Message is one message of a stream.
type Message struct {
	ID    string // the event's; "" for a watch
	Event string // the event's type, or "watch"
	Data  []byte // JSON in one line: an Event, or a Watch
}

// Stream reads GET /v1/events/stream, for one goroutine. It does not connect again: whoever
// does passes LastEventID to the next OpenStream, and misses no event.
type Stream struct {
	body   io.Closer
	lines  *bufio.Scanner
	lastID string
	ctx    context.Context //nolint:containedctx // the request's, which tells why reading failed
	cancel context.CancelCauseFunc

	silent   *time.Timer // runs while nothing comes
	patience time.Duration
}

// OpenStream connects and returns when the relay has granted the stream: no event that is made
// after that is missed. Ending ctx, or Close, ends it. A refusal is a *RefusedError. The
// client must have no timeout for whole requests.
func OpenStream(ctx context.Context, c ClientInterface, params *StreamEventsParams) (*Stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &Stream{ctx: ctx, cancel: cancel, patience: streamSilence}
	s.silent = time.AfterFunc(s.patience, func() { cancel(ErrSilent) })
	response, err := c.StreamEvents(ctx, params, func(_ context.Context, r *http.Request) error { //nolint:bodyclose // Close does
		r.Header.Set("Accept", "text/event-stream")
		return nil
	})
	if err == nil {
		s.body = response.Body
		err = granted(response)
	}
	if err != nil {
		err = s.why(err)
		s.Close()
		return nil, err
	}
	s.silent.Stop()
	s.lines = bufio.NewScanner(impatient{response.Body, s})
	s.lines.Buffer(nil, maxMessage)
	if params != nil && params.LastEventID != nil {
		s.lastID = *params.LastEventID
	} else if params != nil && params.After != nil {
		s.lastID = *params.After
	}
	return s, nil
}

// granted is why an answer is not a stream.
func granted(response *http.Response) error {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if response.StatusCode == http.StatusOK && kind == "text/event-stream" {
		return nil
	}
	refused := &RefusedError{Status: response.StatusCode}
	if kind == "application/problem+json" {
		if err := json.NewDecoder(io.LimitReader(response.Body, maxProblem)).Decode(&refused.Problem); err != nil {
			refused.Problem = Problem{}
		}
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		refused.RetryAfter = time.Duration(seconds) * time.Second
	}
	return refused
}

// Next waits for the next message. io.EOF says that the relay has ended the stream, any other
// error that the connection was lost; what came of a message until then is dropped.
func (s *Stream) Next() (Message, error) {
	var m Message
	id, hasID, hasData := "", false, false
	for s.lines.Scan() {
		line := s.lines.Bytes()
		if len(line) == 0 {
			if hasID {
				s.lastID = id
			}
			if hasData {
				m.ID = id
				return m, nil
			}
			m, id, hasID = Message{}, "", false
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) { // "" is a comment
		case "id":
			id, hasID = string(value), true
		case "event":
			m.Event = string(value)
		case "data":
			if hasData {
				m.Data = append(m.Data, '\n')
			}
			m.Data, hasData = append(m.Data, value...), true
			if len(m.Data) > maxMessage {
				return Message{}, ErrMessageTooLong
			}
		}
	}
	return Message{}, s.why(s.lines.Err())
}

// why is the cause of an error of reading, io.EOF for none.
func (s *Stream) why(err error) error {
	switch cause := context.Cause(s.ctx); {
	case err == nil:
		return io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return ErrMessageTooLong
	case cause != nil:
		return cause
	}
	return err
}

// LastEventID is where to go on from: of the last message with an id, or where the stream began.
func (s *Stream) LastEventID() string { return s.lastID }

// Close ends the stream. It may be called from any goroutine, and more than once.
func (s *Stream) Close() {
	s.silent.Stop()
	s.cancel(context.Canceled)
	if s.body != nil {
		_ = s.body.Close() // nothing more is read
	}
}

// impatient ends the stream if nothing comes for as long as its patience lasts.
type impatient struct {
	io.Reader

	stream *Stream
}

func (r impatient) Read(p []byte) (int, error) {
	r.stream.silent.Reset(r.stream.patience)
	defer r.stream.silent.Stop()
	return r.Reader.Read(p)
}
