package client_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
)

// open opens a stream of what the handler writes.
func open(t *testing.T, handle http.HandlerFunc, params *client.StreamEventsParams) (*client.Stream, error) {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	c, err := client.NewClientWithResponses(server.URL, client.WithAPIKey("relay_key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.OpenStream(t.Context(), c, params)
	if err == nil {
		t.Cleanup(s.Close)
	}
	return s, err
}

// sending is a handler that sends this, and then ends the stream.
func sending(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
	}
}

func TestStreamIsReadAsTheStandardHasIt(t *testing.T) {
	t.Parallel()
	begins := "event_01jd8p5kzve6wbdq8rfg0m3c7x"
	for text, want := range map[string]string{
		"id: a\n\nid: b\nevent: x\ndata: {\"a\": \"b: c\"}\n\n": `b|x|{"a": "b: c"}; last b`,
		": comment\n\n:\n\ndata\n\n":                            "||; last " + begins,
		"event: watch\ndata: 1\n\nid: 2\ndata: 3\n\n":           "|watch|1 2||3; last 2",
		"id: 1\r\nevent:x\r\ndata:1\r\ndata: 2\r\n\r\n":         "1|x|1\n2; last 1",
		"event: x\n\nretry: 10\nother: 1\ndata: 1\n\n":          "||1; last " + begins,
		"id: 1\ndata: 1\n\nid: 2\ndata: of what is cut off\n":   "1||1; last 1",
		"": "; last " + begins,
	} {
		s, err := open(t, sending(text), &client.StreamEventsParams{After: &begins})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for {
			var m client.Message
			if m, err = s.Next(); err != nil {
				break
			}
			got = append(got, m.ID+"|"+m.Event+"|"+string(m.Data))
		}
		if all := strings.Join(got, " ") + "; last " + s.LastEventID(); all != want || !errors.Is(err, io.EOF) {
			t.Errorf("%q: %q, %v, want %q", text, all, err, want)
		}
	}
}

func TestStreamAsksForWhatItIsTold(t *testing.T) {
	t.Parallel()
	last, kind := "event_01jd8p5kzve6wbdq8rfg0m3c7x", client.EventType("operation.failed")
	s, err := open(t, func(w http.ResponseWriter, r *http.Request) {
		sending(fmt.Sprintf("data: %s %s %s %s\n\n", r.Header.Get("Authorization"), r.Header.Get("Accept"),
			r.Header.Get("Last-Event-ID"), r.URL))(w, r)
	}, &client.StreamEventsParams{LastEventID: &last, Type: &kind, Progress: new(true)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Next()
	want := "Bearer relay_key text/event-stream " + last + " /v1/events/stream?type=operation.failed&progress=true"
	if string(m.Data) != want || s.LastEventID() != last {
		t.Errorf("%s, %v, last %s", m.Data, err, s.LastEventID())
	}
}

func TestStreamIsBounded(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{
		"a line":    "data: " + strings.Repeat("x", 2<<20),
		"a message": strings.Repeat("data: "+strings.Repeat("x", 1<<16)+"\n", 20),
	} {
		s, err := open(t, sending(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Next(); !errors.Is(err, client.ErrMessageTooLong) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestStreamThatIsRefused(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		kind, body, retry string
		status            int
		want              client.RefusedError
	}{
		"a problem": {
			"application/problem+json", `{"title":"Too many","status":429}`, "7", 429,
			client.RefusedError{Status: 429, Problem: client.Problem{Title: "Too many", Status: 429}, RetryAfter: 7 * time.Second},
		},
		"another's page":      {"text/html", "<p>hello", "soon", 502, client.RefusedError{Status: 502}},
		"a page for a stream": {"text/html", "<p>sign in", "", 200, client.RefusedError{Status: 200}},
		"a broken problem":    {"application/problem+json", `{"title":"x"`, "-1", 400, client.RefusedError{Status: 400}},
	} {
		_, err := open(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.kind)
			w.Header().Set("Retry-After", c.retry)
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}, nil)
		refused, ok := errors.AsType[*client.RefusedError](err)
		if !ok || fmt.Sprint(*refused) != fmt.Sprint(c.want) {
			t.Errorf("%s: %#v", what, err)
		}
	}
}

// A stream that is closed ends at once, also for a reader that waits.
func TestStreamIsClosed(t *testing.T) {
	t.Parallel()
	s, err := open(t, func(w http.ResponseWriter, r *http.Request) {
		sending("id: 1\ndata: 1\n\n")(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Next(); m.ID != "1" {
		t.Fatal(m, err)
	}
	go s.Close()
	if _, err := s.Next(); err == nil || errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// A connection that died without a word is noticed.
func TestStreamThatIsSilent(t *testing.T) {
	t.Parallel()
	s, err := open(t, func(w http.ResponseWriter, r *http.Request) {
		sending(": hello\n\n")(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Hurry(10 * time.Millisecond)
	if _, err := s.Next(); !errors.Is(err, client.ErrSilent) {
		t.Error(err)
	}
}
