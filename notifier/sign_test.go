package notifier

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The vector that the specification's own libraries are tested with.
func TestSignaturePublishedVector(t *testing.T) {
	t.Parallel()
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	got, err := signatures([]string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "msg_p5jXN8AQM9LWM0D4loKWxJek",
		time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestSignaturesVerifyWithOfficialLibrary(t *testing.T) {
	t.Parallel()
	oldest, newest, foreign := NewSecret(), NewSecret(), NewSecret()
	longest := secretPrefix + base64.StdEncoding.EncodeToString(make([]byte, maxSecretBytes))
	tests := []struct {
		name     string
		secrets  []string
		verifier string
		valid    bool
	}{
		{"one secret", []string{newest}, newest, true},
		{"overlap, old key", []string{newest, oldest}, oldest, true},
		{"overlap, new key", []string{newest, oldest}, newest, true},
		{"longest key", []string{longest}, longest, true},
		{"foreign key", []string{newest, oldest}, foreign, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now, body := time.Now(), []byte("\x00\xff any bytes, even . dots")
			signed, err := signatures(tt.secrets, "event_1", now, body)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(strings.Split(signed, " ")); got != len(tt.secrets) {
				t.Errorf("%d signatures for %d secrets", got, len(tt.secrets))
			}
			verifier, err := standardwebhooks.NewWebhook(tt.verifier)
			if err != nil {
				t.Fatal(err)
			}
			err = verifier.Verify(body, http.Header{
				"Webhook-Id":        {"event_1"},
				"Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)},
				"Webhook-Signature": {signed},
			})
			if (err == nil) != tt.valid {
				t.Errorf("verifying: %v", err)
			}
		})
	}
}

func TestNewSecret(t *testing.T) {
	t.Parallel()
	first, second := NewSecret(), NewSecret()
	if first == second || CheckSecret(first) != nil || !strings.HasPrefix(first, "whsec_") {
		t.Errorf("got %q and %q", first, second)
	}
}

func TestCheckSecret(t *testing.T) {
	t.Parallel()
	bytesOf := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	tests := []struct {
		name, secret string
		want         string // part of the message; empty = accepted
	}{
		{"24 bytes", "whsec_" + bytesOf(24), ""},
		{"64 bytes", "whsec_" + bytesOf(64), ""},
		{"23 bytes", "whsec_" + bytesOf(23), "holds 23 bytes"},
		{"65 bytes", "whsec_" + bytesOf(65), "holds 65 bytes"},
		{"empty", "", "is empty"},
		{"prefix alone", "whsec_", "holds 0 bytes"},
		{"no prefix", bytesOf(32), "put whsec_ before"},
		{"version before", "v1,whsec_" + bytesOf(32), "remove the v1"},
		{"asymmetric", "whsk_" + bytesOf(64), "asymmetric"},
		{"public key", "whpk_" + bytesOf(32), "asymmetric"},
		{"white space", "whsec_" + bytesOf(32) + "\n", "white space"},
		{"line break inside", "whsec_AAAA\n" + bytesOf(32), "not base64"},
		{"not base64", "whsec_!" + bytesOf(32), "not base64"},
		{"unpadded", "whsec_" + strings.TrimRight(bytesOf(32), "="), "padded"},
		{"URL alphabet", "whsec_" + strings.Repeat("-_", 16), "standard alphabet"},
		{"capitals", "WHSEC_" + bytesOf(32), "put whsec_ before"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := CheckSecret(tt.secret)
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a message with %q", err, tt.want)
			}
		})
	}
}
