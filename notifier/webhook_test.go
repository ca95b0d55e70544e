package notifier_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/notifier"
	"oprelay/notifier/egress"
	"oprelay/notifier/webhooktest"
)

func send(t *testing.T, url string, headers map[string]string) (notifier.Outcome, error) {
	t.Helper()
	to := notifier.Webhook{URL: url, Headers: headers, Secrets: []string{testSecret}}
	return newClient(t, nil).SendWebhook(t.Context(), to, testMessage())
}

func TestWebhookOnTheWire(t *testing.T) {
	t.Parallel()
	receiver := webhooktest.New(testSecret)
	headers := map[string]string{"Authorization": "Bearer x", "X-Team": "ops"}
	for range 2 {
		if _, err := send(t, serve(t, receiver)+"/in", headers); err != nil {
			t.Fatal(err)
		}
	}
	arrivals := receiver.Arrivals()
	traces := make([]string, 0, len(arrivals))
	for _, a := range arrivals {
		if a.Err != nil {
			t.Errorf("does not verify: %v", a.Err)
		}
		if a.Method != http.MethodPost || a.Path != "/in" || !bytes.Equal(a.Body, testMessage().Body) {
			t.Errorf("got %s %s %q", a.Method, a.Path, a.Body)
		}
		for name, want := range map[string]string{
			"Webhook-Id": testEvent, "Content-Type": "application/json", "User-Agent": "relay/1.2.3",
			"Authorization": "Bearer x", "X-Team": "ops",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		trace := a.Header.Get("Traceparent")
		if !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`).MatchString(trace) {
			t.Errorf("traceparent is %q", trace)
		}
		traces = append(traces, trace)
	}
	const uptoTraceID = len("00-") + 32
	if len(traces) != 2 || traces[0][:uptoTraceID] != traces[1][:uptoTraceID] || traces[0] == traces[1] {
		t.Errorf("attempts must share a trace and differ in their span: %v", traces)
	}
}

func TestWebhookHeadersOnTheWire(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Content-Type", "User-Agent"} {
			fmt.Fprintf(&got, "%s: %s\n", strings.ToLower(name), r.Header.Get(name))
		}
	}))
	client := newClient(t, func(cfg *notifier.Config) {
		cfg.Now = func() time.Time { return time.Unix(1_795_428_000, 999) }
	})
	to := notifier.Webhook{URL: url, Secrets: []string{otherSecret, testSecret}}
	if _, err := client.SendWebhook(t.Context(), to, testMessage()); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "webhook-headers.golden", []byte(got.String()))
}

func TestEveryStatus(t *testing.T) {
	t.Parallel()
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Path[1:])
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(buffer, "HTTP/1.1 %d X\r\nRetry-After: 90\r\nLocation: /200\r\nConnection: close\r\n\r\n", status)
		_ = buffer.Flush()
		_ = conn.Close()
	}))
	client := newClient(t, nil)
	for status := 100; status <= 599; status++ {
		to := notifier.Webhook{URL: url + "/" + strconv.Itoa(status), Secrets: []string{testSecret}}
		outcome, err := client.SendWebhook(t.Context(), to, testMessage())
		wantStatus, wantKind, wantRetry := status, notifier.Passing, time.Duration(0)
		switch {
		case status < 200 && status != http.StatusSwitchingProtocols:
			wantStatus = 0 // an interim answer, and then no final one
		case status == http.StatusGone:
			wantKind = notifier.Gone
		case status == 429 || status == 502 || status == 503 || status == 504:
			wantRetry = 90 * time.Second
		}
		if outcome.StatusCode != wantStatus {
			t.Errorf("%d: outcome has status %d", status, outcome.StatusCode)
		}
		if status >= 200 && status <= 299 {
			if err != nil {
				t.Errorf("%d: %v", status, err)
			}
			continue
		}
		failure := failureOf(t, err)
		if failure.Kind != wantKind || failure.RetryAfter != wantRetry {
			t.Errorf("%d: got %v, retry after %v", status, failure.Kind, failure.RetryAfter)
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		elsewhere := webhooktest.New(testSecret)
		receiver := webhooktest.New(testSecret)
		receiver.Respond(webhooktest.Always(webhooktest.Answer{Status: status, Location: serve(t, elsewhere)}))
		outcome, err := send(t, serve(t, receiver), nil)
		if outcome.StatusCode != status || err == nil || len(elsewhere.Arrivals()) != 0 {
			t.Errorf("%d: got %d, %v, %d arrivals elsewhere", status, outcome.StatusCode, err, len(elsewhere.Arrivals()))
		}
	}
}

// endless writes zeros until the sender has had enough.
func endless(w io.Writer) {
	chunk := make([]byte, 64<<10)
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		handler http.HandlerFunc
		length  int
	}{
		{"empty", func(http.ResponseWriter, *http.Request) {}, 0},
		{"short", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "thanks") }, 6},
		{"exactly 4 KiB", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 4096)) }, 4096},
		{"longer", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 4097)) }, 4096},
		{"endless", func(w http.ResponseWriter, _ *http.Request) { endless(w) }, 4096},
		{"gzip", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, "thanks")
			_ = z.Close()
		}, 6},
		{"gzip bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			endless(gzip.NewWriter(w))
		}, 4096},
		{"not gzip at all", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, "plain")
		}, 0},
		{"truncated", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "thanks")
		}, 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			outcome, err := send(t, serve(t, tt.handler), nil)
			if err != nil || outcome.StatusCode != http.StatusOK || len(outcome.Body) != tt.length {
				t.Errorf("got %d, %d bytes, %v", outcome.StatusCode, len(outcome.Body), err)
			}
		})
	}
}

//nolint:paralleltest // it measures the memory of the whole process
func TestEndlessBodiesCostNoMemory(t *testing.T) {
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		endless(gzip.NewWriter(w))
	}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const sends, allowed = 20, 4 << 20
	for range sends {
		if _, err := send(t, url, nil); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / sends; each > allowed { // both ends, gzip writer included
		t.Errorf("each send allocated %d bytes", each)
	}
}

func TestDeadlineCoversTheBody(t *testing.T) {
	t.Parallel()
	hanging := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		status  int
	}{
		{"no answer", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the sender left
			<-r.Context().Done()
		}, 0},
		{"no end of the body", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			hanging(w, r)
		}, http.StatusOK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			to := notifier.Webhook{URL: serve(t, tt.handler), Secrets: []string{testSecret}}
			outcome, err := newClient(t, nil).SendWebhook(ctx, to, testMessage())
			failure := failureOf(t, err)
			if failure.Kind != notifier.Passing || !errors.Is(err, context.DeadlineExceeded) || outcome.StatusCode != tt.status {
				t.Errorf("got %d, %v", outcome.StatusCode, err)
			}
		})
	}
}

func TestInterruptedSend(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	receiver := webhooktest.New(testSecret)
	receiver.Respond(func(webhooktest.Arrival) webhooktest.Answer {
		cancel()
		return webhooktest.Answer{Hang: true}
	})
	to := notifier.Webhook{URL: serve(t, receiver), Secrets: []string{testSecret}}
	if _, err := newClient(t, nil).SendWebhook(ctx, to, testMessage()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPrivateAddressIsRefused(t *testing.T) {
	t.Parallel()
	receiver := webhooktest.New(testSecret)
	client := notifier.New(notifier.Config{})
	t.Cleanup(client.Close)
	to := notifier.Webhook{URL: serve(t, receiver), Secrets: []string{testSecret}}
	_, err := client.SendWebhook(t.Context(), to, testMessage())
	if !errors.Is(err, egress.ErrForbidden) || len(receiver.Arrivals()) != 0 {
		t.Errorf("got %v and %d arrivals", err, len(receiver.Arrivals()))
	}
	if _, err = client.SendSlackWebhook(t.Context(), to.URL, testMessage()); !errors.Is(err, egress.ErrForbidden) {
		t.Errorf("incoming webhook: got %v", err)
	}
}

// tcpServer gives every connection the same bytes, or, if echo is set, what it received.
func tcpServer(t *testing.T, answer string, echo bool) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			request := make([]byte, 64<<10)
			n, _ := conn.Read(request)
			if echo {
				_, _ = conn.Write(request[:n])
			}
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// Whatever goes wrong, what is secret about a destination is not in the error.
func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	const marker = "MARKER"
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	plain := strings.TrimPrefix(serve(t, http.NotFoundHandler()), "http://")
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	urls := map[string]string{
		"refused":         closed.URL + "/MARKER",
		"closed":          "http://" + tcpServer(t, "", false) + "/MARKER",
		"echo":            "http://" + tcpServer(t, "", true) + "/MARKER",
		"not HTTP":        "http://" + tcpServer(t, "MARKER MARKER MARKER\r\n\r\n", false) + "/MARKER",
		"bad location":    "http://" + tcpServer(t, "HTTP/1.1 302 X\r\nLocation: http://MARKER:MARKER/\x7f\r\n\r\n", false) + "/MARKER",
		"reason phrase":   "http://" + tcpServer(t, "HTTP/1.1 500 MARKER\r\n\r\n", false) + "/MARKER",
		"retry after":     "http://" + tcpServer(t, "HTTP/1.1 429 X\r\nRetry-After: MARKER\r\nContent-Length: 0\r\n\r\n", false) + "/MARKER",
		"no TLS":          "https://" + plain + "/MARKER",
		"untrusted":       untrusted.URL + "/MARKER",
		"forbidden":       "http://10.0.0.1/MARKER",
		"port":            "http://127.0.0.1:MARKER/MARKER",
		"control":         "http://127.0.0.1/\x7fMARKER",
		"scheme":          "MARKER://127.0.0.1/MARKER",
		"no host":         "http:///MARKER",
		"name":            "http://127.0.0.1.invalid./MARKER",
		"url in the text": "http://127.0.0.1:1/malformed-tls: MARKER",
	}
	client := newClient(t, func(cfg *notifier.Config) { cfg.SlackURL = closed.URL + "/api" })
	secret := "whsec_" + marker + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			to := notifier.Webhook{URL: url, Headers: map[string]string{"X-Key": marker}, Secrets: []string{secret}}
			_, webhookErr := client.SendWebhook(ctx, to, testMessage())
			_, slackErr := client.SendSlackWebhook(ctx, url, testMessage())
			_, botErr := client.SendSlackBot(ctx, "xoxb-"+marker, "C1", notifier.SlackRef{}, testMessage())
			for _, err := range []error{webhookErr, slackErr, botErr} {
				failureOf(t, err)
				for ; err != nil; err = errors.Unwrap(err) {
					if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, marker) {
						t.Errorf("%T: %s", err, text)
					}
				}
			}
		})
	}
	t.Run("faulty settings", func(t *testing.T) {
		t.Parallel()
		for _, to := range []notifier.Webhook{
			{URL: closed.URL, Secrets: []string{marker}},
			{URL: closed.URL, Secrets: []string{"whsec_" + marker + "!"}},
			{URL: closed.URL},
			{URL: closed.URL, Secrets: []string{secret}, Headers: map[string]string{"X": marker + "\r\nY: z"}},
		} {
			_, err := client.SendWebhook(t.Context(), to, testMessage())
			if failureOf(t, err); strings.Contains(err.Error(), marker) {
				t.Error(err)
			}
		}
	})
}
