package notifier_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oprelay/notifier"
)

// Every 3xx is a failure, whatever place it names.
func TestNoRedirectIsFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := newWire(t)
	for status := 300; status < 400; status++ {
		for _, place := range []string{"http://" + elsewhere.address + "/", "//" + elsewhere.address, "/again", "http://[::1]/", "gopher://x"} {
			address, _ := receiverOf(t, first(fmt.Sprintf("HTTP/1.1 %d X\r\nLocation: %s\r\nRefresh: 0; url=%[2]s\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n", status, place), func(net.Conn) {}))
			outcome, err := send(t, "http://"+address+"/", nil)
			if failure := failureOf(t, err); outcome.StatusCode != status || failure.Kind != notifier.Passing || failure.RetryAfter != 0 {
				t.Errorf("%d to %s: got %d, %v", status, place, outcome.StatusCode, err)
			}
		}
	}
	if n := len(elsewhere.requests()); n != 0 {
		t.Errorf("%d requests were redirected", n)
	}
}

// What Retry-After asks for is heeded in its two forms, within a day, and only with the statuses that it belongs to.
func TestRetryAfterOnTheWire(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"Retry-After: 90": 90 * time.Second, "retry-after:90": 90 * time.Second, "RETRY-AFTER: \t90 ": 90 * time.Second, "Retry-After: 0090": 90 * time.Second,
		"Retry-After: Mon, 23 Nov 2026 10:01:30 GMT": 90 * time.Second, "Retry-After: Mon, 23 Nov 2026 09:00:00 GMT": 0,
		"Retry-After: 9223372036854775808": 24 * time.Hour, "Retry-After: " + strings.Repeat("9", 1000): 24 * time.Hour, "Retry-After: 86401": 24 * time.Hour,
		"Retry-After: -1": 0, "Retry-After: 1.5": 0, "Retry-After: 9e9": 0, "Retry-After: 0x10": 0, "Retry-After: soon": 0, "Retry-After: ": 0, "Retry-After: ９０": 0,
		"Retry-After: 90, 91": 0, "X: y": 0, "Retry-After: 90\r\nRetry-After: 5": 90 * time.Second, "Retry-After: soon\r\nRetry-After: 5": 0,
		"Retry-After: Fri, 31 Dec 9999 23:59:59 GMT": 24 * time.Hour, "Retry-After: Mon, 23 Nov 2026 10:01:30 +0000": 0,
	} {
		for _, status := range []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusInternalServerError, http.StatusOK} {
			address, _ := receiverOf(t, first(fmt.Sprintf("HTTP/1.1 %d X\r\n%s\r\nContent-Length: 0\r\n\r\n", status, value), func(net.Conn) {}))
			client := newClient(t, func(cfg *notifier.Config) { cfg.Now = func() time.Time { return now } })
			_, err := client.SendWebhook(t.Context(), notifier.Webhook{URL: "http://" + address, Secrets: []string{testSecret}}, testMessage())
			if status == http.StatusOK {
				if err != nil {
					t.Errorf("%s: %v", value, err)
				}
				continue
			}
			expected, kind := want, notifier.Passing
			if status == http.StatusInternalServerError {
				expected = 0
			}
			if status == http.StatusTooManyRequests || expected > 0 {
				kind = notifier.RateLimited
			}
			if failure := failureOf(t, err); failure.RetryAfter != expected || failure.Kind != kind {
				t.Errorf("%d with %.60s: %v, retry after %v, want %v", status, value, failure.Kind, failure.RetryAfter, expected)
			}
		}
	}
}

// Neither a Slack URL of a tenant nor the operator's leads anywhere else, and no token goes there.
func TestNoRedirectOfSlackIsFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	address := listen(t, func(net.Conn) { elsewhere.Add(1) })
	for status := 300; status < 400; status++ {
		base := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://"+address+"/")
			w.WriteHeader(status)
		}))
		client := newClient(t, func(cfg *notifier.Config) { cfg.SlackURL = base })
		_, webhookErr := client.SendSlackWebhook(t.Context(), base, testMessage())
		_, postErr := client.SendSlackBot(t.Context(), "xoxb-1", "C1", notifier.SlackRef{}, testMessage())
		_, updateErr := client.SendSlackBot(t.Context(), "xoxb-1", "C1", notifier.SlackRef{Channel: "C1", TS: "1.2"}, testMessage())
		for _, err := range []error{webhookErr, postErr, updateErr} {
			if failure := failureOf(t, err); failure.Kind != notifier.Passing {
				t.Errorf("%d: got %v, %v", status, failure.Kind, err)
			}
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d connections were redirected", n)
	}
}
