package chaos

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"oprelay/deploy/testenv"
)

// trouble is a receiver that misbehaves, and how the relay is to classify it.
type trouble struct {
	name   string
	url    string
	status int    // of its attempts; 0 for no answer
	err    string // part of their error; "" for accepted all the same
}

const (
	retryAfter = 2 * time.Second
	trickle    = 500 * time.Millisecond // between the bytes of a slow receiver
	// zeros is how much the answers hold that never end, or unpack to it.
	zeros = 10 << 30
)

// newTroubles starts a receiver for each way to misbehave. Those that accept all
// the same have it recorded, at their path. waited is the one that asks for time.
func newTroubles(t *testing.T, accepted *receivers) (all []trouble, waited *impatience) {
	t.Helper()
	waited = &impatience{answered: map[string]time.Time{}, again: make(chan struct{})}
	mux := http.NewServeMux()
	plain := serve(t, mux)
	secure := httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // it is not trusted, as it should be
	secure.StartTLS()
	t.Cleanup(secure.Close)

	add := func(name string, status int, err string, answer http.HandlerFunc) {
		path := "/troubled/" + strconv.Itoa(len(all))
		mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			body, readErr := io.ReadAll(req.Body)
			if readErr == nil && err == "" {
				accepted.record(path, req, body)
			}
			answer(w, req)
		})
		all = append(all, trouble{name: name, url: plain + path, status: status, err: err})
	}
	add("reset", 0, "connection", func(w http.ResponseWriter, _ *http.Request) { reset(t, w, "") })
	add("reset in mid-answer", 0, "connection", func(w http.ResponseWriter, _ *http.Request) { reset(t, w, "HTTP/1.1 204 No Con") })
	add("answer after the timeout", 0, "no complete answer within", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	add("endless body with 500", 500, "500", endless(http.StatusInternalServerError))
	add("endless body with 200", 200, "", endless(http.StatusOK))
	add("10 GiB of zeros gzipped, with 500", 500, "500", bomb(http.StatusInternalServerError))
	add("10 GiB of zeros gzipped, with 200", 200, "", bomb(http.StatusOK))
	add("500", 500, "500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	add("429 with Retry-After", 429, "429", waited.ServeHTTP)
	add("redirect", 302, "302", func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/elsewhere", http.StatusFound) })
	add("headers byte by byte", 0, "no complete answer within", slowHeaders(t))
	add("no TLS where TLS is asked for", 0, "TLS", nil)
	all[len(all)-1].url = strings.Replace(plain, "http://", "https://", 1)
	add("a certificate that nobody knows", 0, "unknown authority", nil)
	all[len(all)-1].url = secure.URL
	add("refused", 0, "refused", nil)
	all[len(all)-1].url = "http://" + testenv.Refused(t, "tcp")
	return all, waited
}

// impatience answers 429 with Retry-After to everything, and notes what comes after the
// pause that it has asked for, and what comes again before.
type impatience struct {
	mu       sync.Mutex
	answered map[string]time.Time // by event
	early    []string
	first    time.Time
	again    chan struct{} // closed when something came after the first pause
}

// ServeHTTP takes one attempt.
func (i *impatience) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	event := req.Header.Get("Webhook-Id")
	if last, known := i.answered[event]; known {
		if waited := time.Since(last); waited < retryAfter {
			i.early = append(i.early, fmt.Sprintf("event %s came again after %s", event, waited))
		}
	}
	switch {
	case i.first.IsZero():
		i.first = time.Now()
	case time.Since(i.first) >= retryAfter:
		select {
		case <-i.again:
		default:
			close(i.again)
		}
	}
	w.Header().Set("Retry-After", fmt.Sprint(retryAfter.Seconds()))
	w.WriteHeader(http.StatusTooManyRequests)
	i.answered[event] = time.Now()
}

// judge waits until something has come after a pause, and wants that nothing did too early.
func (i *impatience) judge(t *testing.T) {
	t.Helper()
	select {
	case <-i.again:
	case <-time.After(patience):
		t.Errorf("nothing came within %s after an answer of 429", patience)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, wrong := range i.early {
		t.Errorf("%s, though asked to wait for %s", wrong, retryAfter)
	}
}

// reset ends the connection at once, after what is said.
func reset(t *testing.T, w http.ResponseWriter, said string) {
	t.Helper()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.WriteString(conn, said)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // closes with RST
	}
	_ = conn.Close()
}

func endless(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		for sent, err := 0, error(nil); err == nil && sent < zeros; {
			var n int
			n, err = w.Write(make([]byte, 64<<10))
			sent += n
		}
	}
}

// bomb answers with a body that unpacks to 10 GiB.
func bomb(status int) http.HandlerFunc {
	const member = 1 << 20 // a gzip stream may have many members
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(make([]byte, member)) // a buffer takes everything
	_ = w.Close()
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		for range zeros / member {
			if _, err := w.Write(packed.Bytes()); err != nil {
				return
			}
		}
	}
}

// slowHeaders never comes to the end of its headers.
func slowHeaders(t *testing.T) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, err = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nX: ")
		for err == nil {
			await(t, trickle)
			if err = t.Context().Err(); err == nil {
				_, err = io.WriteString(conn, "x")
			}
		}
	}
}
