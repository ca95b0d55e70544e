package webhooktest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"oprelay/notifier/webhooktest"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// signed is a message that the official library signed.
func signed(t *testing.T, id string) *http.Request {
	t.Helper()
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signature, err := webhook.Sign(id, now, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}"))
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("Webhook-Signature", signature)
	return req
}

func deliver(t *testing.T, r *webhooktest.Receiver, id string) *httptest.ResponseRecorder {
	t.Helper()
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, signed(t, id))
	return answer
}

func TestVerification(t *testing.T) {
	t.Parallel()
	r := webhooktest.New()
	deliver(t, r, "1")
	r.Trust("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
	deliver(t, r, "2")
	r.Trust("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", secret)
	deliver(t, r, "3")
	arrivals := r.Arrivals()
	if !errors.Is(arrivals[0].Err, webhooktest.ErrNotTrusted) {
		t.Errorf("without a secret: %v", arrivals[0].Err)
	}
	if !errors.Is(arrivals[1].Err, standardwebhooks.ErrNoMatchingSignature) {
		t.Errorf("with a foreign secret: %v", arrivals[1].Err)
	}
	if arrivals[2].Err != nil || string(arrivals[2].Body) != "{}" {
		t.Errorf("with its secret: %+v", arrivals[2])
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	busy := webhooktest.Answer{Status: 503, RetryAfter: "3"}
	tests := []struct {
		name   string
		script webhooktest.Script
		want   string // the statuses for the events 1 1 2 1 2
	}{
		{"always", webhooktest.Always(busy), "503 503 503 503 503"},
		{"first attempts", webhooktest.FirstAttempts(1, busy), "503 204 503 204 204"},
		{"first arrivals", webhooktest.FirstArrivals(2, busy), "503 503 204 204 204"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := webhooktest.New(secret)
			r.Respond(tt.script)
			statuses := make([]string, 0, 5)
			for _, id := range []string{"1", "1", "2", "1", "2"} {
				answer := deliver(t, r, id)
				statuses = append(statuses, strconv.Itoa(answer.Code))
				if (answer.Code == http.StatusServiceUnavailable) != (answer.Header().Get("Retry-After") == "3") {
					t.Error("Retry-After belongs to the 503")
				}
			}
			if got := strings.Join(statuses, " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	r := webhooktest.New(secret)
	go r.ServeHTTP(httptest.NewRecorder(), signed(t, "1"))
	arrivals, err := r.Wait(t.Context(), webhooktest.Verified(1))
	if err != nil || len(arrivals) != 1 || arrivals[0].Status != http.StatusNoContent {
		t.Errorf("got %+v, %v", arrivals, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = r.Wait(ctx, webhooktest.Count(2)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
