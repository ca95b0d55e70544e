package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"oprelay/storage"
)

const (
	// ContentType is what a stream is served as.
	ContentType = "text/event-stream"
	// commentEvery is how long a stream is silent at most.
	commentEvery = 15 * time.Second
	comment      = ": nothing new\n\n"
	// batchMost is how many messages are written at a time.
	batchMost = 32
	// readAtLeast is how many bytes, or one message, a reader has to read within readWithin.
	readAtLeast = 64 << 10
	readWithin  = 10 * time.Second
	// endWithin is how long the end of a stream may take that is being written.
	endWithin = 500 * time.Millisecond
)

// Stream is what one reader reads.
type Stream struct {
	hub      *Hub
	request  Request
	follower *follower
	begins   string // the id of the event that it begins after
	place    int64  // the seq of the last event that was sent, or was not to be
	watched  int64  // its place among the changes of watches

	readWithin time.Duration // readWithin, but in tests

	mu         sync.Mutex
	controller *http.ResponseController // nil until it is served
	ended      chan struct{}
	over       bool // ended is closed
}

// Close forgets the stream. It may be called more than once.
func (s *Stream) Close() { s.hub.leave(s) }

// end has the stream end soon, also while its reader does not read.
func (s *Stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	close(s.ended)
	if s.controller != nil {
		_ = s.controller.SetWriteDeadline(time.Now().Add(endWithin)) // else it ends after readWithin
	}
}

// Serve sends the stream as the answer to a request, whose context is ctx. It returns nil when
// the stream has ended or the reader has left. An error says that the reader did not read for
// too long, or that the database is away: the reader can go on from the last event it got.
// The connection cannot be used again.
func (s *Stream) Serve(ctx context.Context, w http.ResponseWriter) error {
	s.mu.Lock()
	s.controller = http.NewResponseController(w)
	s.mu.Unlock()
	silence := time.NewTimer(commentEvery)
	defer silence.Stop()
	out := []entry{{text: fmt.Appendf(nil, "id: %s\n\n", s.begins)}}
	for {
		if len(out) > 0 {
			if err := s.write(w, out); err != nil {
				return err
			}
			silence.Reset(commentEvery)
		}
		next, err := s.next(ctx)
		if err != nil || next.over {
			return err
		}
		if out = next.messages; len(out) > 0 || next.again {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.ended:
			return nil
		case <-next.events:
		case <-next.watches:
		case <-silence.C:
			out = []entry{{text: []byte(comment)}}
		}
	}
}

// write sends messages, until the stream has ended.
func (s *Stream) write(w http.ResponseWriter, messages []entry) error {
	var err error
	paid := 0 // bytes that may still be written until the deadline
	for i := 0; i < len(messages) && err == nil; i++ {
		if paid <= 0 {
			if err = s.extend(); errors.Is(err, errOver) {
				return nil
			}
			paid = readAtLeast
		}
		if err == nil {
			_, err = w.Write(messages[i].text)
		}
		paid -= len(messages[i].text)
	}
	if err == nil {
		err = s.controller.Flush()
	}
	if err != nil {
		return fmt.Errorf("the stream's reader has left, or does not read: %w", err)
	}
	return nil
}

var errOver = errors.New("over")

// extend gives the reader more time, unless the stream has ended: then it is errOver.
func (s *Stream) extend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return errOver
	}
	return s.controller.SetWriteDeadline(time.Now().Add(s.readWithin))
}

// step is what a stream does next.
type step struct {
	over     bool    // it ends
	messages []entry // to be sent
	again    bool    // there was nothing to send, but there may be more
	// With nothing to send, these are closed when there may be something.
	events, watches <-chan struct{}
}

// next finds what to send: events first, so that no watch delays one.
func (s *Stream) next(ctx context.Context) (next step, err error) {
	select {
	case <-s.ended:
		return step{over: true}, nil
	case <-ctx.Done():
		return step{over: true}, nil
	default:
	}
	found, changed, ok := s.follower.events.after(s.place, batchMost)
	if !ok {
		return s.catchUp(ctx)
	}
	if n := len(found); n > 0 {
		s.place = found[n-1].seq
		return step{messages: s.wanted(found), again: true}, nil
	}
	next.events = changed
	if s.request.Progress {
		next.messages, s.watched, next.watches = s.follower.watches.newest(s.watched, batchMost)
	}
	return next, nil
}

// wanted leaves out events of other types.
func (s *Stream) wanted(found []entry) []entry {
	if s.request.Type == "" {
		return found
	}
	var wanted []entry
	for _, e := range found {
		if e.kind == s.request.Type {
			wanted = append(wanted, e)
		}
	}
	return wanted
}

// catchUp reads the database, few streams at a time.
func (s *Stream) catchUp(ctx context.Context) (step, error) {
	select {
	case s.hub.catchUp <- struct{}{}:
	case <-s.ended:
		return step{over: true}, nil
	case <-ctx.Done():
		return step{over: true}, nil
	}
	defer func() { <-s.hub.catchUp }()
	found, place, err := s.follower.catchUp(ctx, storage.FeedPart{
		TenantID: s.request.TenantID, After: s.place, Type: s.request.Type,
	})
	if gone := (*storage.FeedGoneError)(nil); errors.As(err, &gone) { // the reader is told when it comes again
		return step{over: true}, nil
	}
	if err != nil {
		return step{}, err
	}
	s.place = place
	return step{messages: found, again: true}, nil
}
