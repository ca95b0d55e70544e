package notifier

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// A secret that is accepted signs so that the official library verifies it, and only what was signed; one that is
// refused signs nothing, and the message does not hold it.
func FuzzSecret(f *testing.F) {
	for _, seed := range []string{
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "", "whsec_", "v1,whsec_AAAA", "whsk_AAAA",
		"whsec_" + strings.Repeat("A", 32), "whsec_" + strings.Repeat("/", 84) + "+w==", "whsec_AAAA\n" + strings.Repeat("A", 32), " whsec_AAAA",
		"whsec_" + strings.Repeat("A", 31) + "=", "whsec_" + strings.Repeat("A", 30) + "B=", "whsec_whsec_" + strings.Repeat("A", 32),
	} {
		f.Add(seed, []byte(`{"type":"operation.failed"}`))
	}
	f.Fuzz(func(t *testing.T, secret string, body []byte) {
		const id = "event_01kay5v2s5f0rs2m5j7cw9q4te"
		now := time.Now()
		refused := CheckSecret(secret)
		signed, err := signatures([]string{secret}, id, now, body)
		if (refused == nil) != (err == nil) {
			t.Fatalf("%q: checked with %v, signed with %v", secret, refused, err)
		}
		if refused != nil {
			if len(secret) > 8 && strings.Contains(err.Error(), secret) {
				t.Errorf("the message holds the secret: %v", err)
			}
			return
		}
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatalf("%q is not a secret to the library: %v", secret, err)
		}
		header := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Webhook-Signature": {signed}}
		if err := verifier.Verify(body, header); err != nil {
			t.Errorf("%q: %v", secret, err)
		}
		if verifier.Verify(append(body, ' '), header) == nil {
			t.Errorf("%q: another body verifies", secret)
		}
	})
}

// Whatever a receiver asks for, the wait is between nothing and a day, and nothing where it is not to be heeded.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", "-5", "99999999999999999999", "9223372036854775807", "Mon, 23 Nov 2026 10:05:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "１２", "1 2"} {
		f.Add(http.StatusServiceUnavailable, seed, int64(1_795_428_000))
	}
	f.Fuzz(func(t *testing.T, status int, value string, now int64) {
		got := retryAfter(status, http.Header{"Retry-After": {value}}, time.Unix(now, 0))
		heeded := status == 429 || status == 502 || status == 503 || status == 504
		if got < 0 || got > maxRetryAfter || got != 0 && !heeded {
			t.Errorf("%d %q: %v", status, value, got)
		}
		if n, err := strconv.ParseUint(value, 10, 16); err == nil && heeded && got != min(time.Duration(n)*time.Second, maxRetryAfter) {
			t.Errorf("%d %q: %v", status, value, got)
		}
	})
}

// Headers that are accepted hold nothing that ends a line, and none that the relay writes itself.
func FuzzCheckHeaders(f *testing.F) {
	for _, seed := range [][2]string{
		{"Authorization", "Bearer x"}, {"webhook_id", "x"}, {"X\r\nHost", "x"}, {"X", "a\r\nHost: b"}, {"Hoſt", "x"}, {"Transfer-Encoding", "chunked"}, {"", ""}, {":path", "/"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		if len(CheckHeaders(map[string]string{name: value})) > 0 {
			return
		}
		if name == "" || strings.ContainsAny(name, " \t\r\n:\x00") || strings.ContainsAny(value, "\r\n\x00") || len(name)+len(value) > maxHeaderName+maxHeaderValue {
			t.Errorf("%q: %q is accepted", name, value)
		}
		canonical := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		for _, own := range []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "User-Agent", "Traceparent"} {
			if canonical == own {
				t.Errorf("%q is accepted", name)
			}
		}
	})
}
