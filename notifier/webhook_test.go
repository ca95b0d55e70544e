package notifier_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
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

// Headers that were stored before a rule was made cannot override the relay's own either.
func TestReservedHeadersAreNotSent(t *testing.T) {
	t.Parallel()
	receiver := webhooktest.New(testSecret)
	for _, name := range []string{"webhook-id", "WEBHOOK-SIGNATURE", "Host", "Content-Type", "Accept-Encoding"} {
		_, err := send(t, serve(t, receiver), map[string]string{name: "x"})
		if failure := failureOf(t, err); !strings.Contains(failure.Error(), name) || len(receiver.Arrivals()) != 0 {
			t.Errorf("%s: got %v, %d arrivals", name, err, len(receiver.Arrivals()))
		}
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
			wantKind, wantRetry = notifier.RateLimited, 90*time.Second
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
