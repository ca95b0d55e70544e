package source

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestPollEndsInTime(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	hangInBody := func(w http.ResponseWriter, r *http.Request) {
		reply(200, `{"success":`)(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for name, handler := range map[string]http.HandlerFunc{"before the header": hang, "in the body": hangInBody} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(handler)
			t.Cleanup(server.Close)
			client := at(t, "cloudflare", server.URL, Config{Timeout: 50 * time.Millisecond})
			got := client.Poll(t.Context(), client.lists(testToken()))
			if got.Verdict != Inconclusive || !strings.HasSuffix(got.Problem, "it took too long") {
				t.Errorf("got %+v", got)
			}
		})
	}
	t.Run("canceled by its caller", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		client := serve(t, "cloudflare", func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
		got := client.Poll(ctx, client.lists(testToken()))
		if want := (Answer{Verdict: Inconclusive, Rule: -1, Problem: "no answer: the poll was canceled", Detail: "context canceled", Requests: 1}); got != want {
			t.Errorf("got %+v", got)
		}
	})
}

// A bare connection instead of a body must not hold the poll: no context
// interrupts a read from it.
func TestPollEndsAfterSwitchOfProtocols(t *testing.T) {
	t.Parallel()
	client := serve(t, "cloudflare", func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"))
	})
	if got := client.Poll(t.Context(), client.lists(testToken())); got.Verdict != Inconclusive || got.HTTPStatus != 101 {
		t.Errorf("got %+v", got)
	}
}

// The second request on a kept-alive connection is read and left unanswered:
// net/http would send it once more by itself.
func TestPollIsSentOnce(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests := make(chan int, 8)
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests <- 1
			if strings.HasSuffix(r.URL.Path, "2") {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.Close()
				return
			}
			reply(404, `{"success":false,"errors":[]}`)(w, r)
		}),
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })

	client := at(t, "cloudflare", "http://"+listener.Addr().String(), Config{})
	poll := client.lists(testToken())
	poll.OperationID = strings.Repeat("1", 32)
	if got := client.Poll(t.Context(), poll); got.Verdict != NotFound {
		t.Fatalf("first: got %+v", got)
	}
	poll.OperationID = strings.Repeat("2", 32)
	if got := client.Poll(t.Context(), poll); got.Verdict != Inconclusive || got.HTTPStatus != 0 {
		t.Errorf("second: got %+v", got)
	}
	if len(requests) != 2 {
		t.Errorf("%d requests for 2 polls", len(requests))
	}
}
