package notifier_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/notifier"
)

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
	refused := "http://" + testenv.Refused(t, "tcp")
	plain := strings.TrimPrefix(serve(t, http.NotFoundHandler()), "http://")
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	urls := map[string]string{
		"refused":         refused + "/MARKER",
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
		"url in the text": "http://127.0.0.1:1/malformed-tls: MARKER",
	}
	client := newClient(t, func(cfg *notifier.Config) { cfg.SlackURL = refused + "/api" })
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
				_ = failureOf(t, err)
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
			{URL: refused, Secrets: []string{marker}},
			{URL: refused, Secrets: []string{"whsec_" + marker + "!"}},
			{URL: refused},
			{URL: refused, Secrets: []string{secret}, Headers: map[string]string{"X": marker + "\r\nY: z"}},
		} {
			_, err := client.SendWebhook(t.Context(), to, testMessage())
			if failure := failureOf(t, err); strings.Contains(failure.Error(), marker) {
				t.Error(err)
			}
		}
	})
}
