package cloudflare

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

const (
	redacted = "[redacted]"

	// shortestSecret keeps a nonsense secret of a few letters from blanking
	// half of every message that passes through [Credential.redact].
	shortestSecret = 8
)

// Credential is what a poll authenticates with: an API token, or the email and
// key of the older scheme. If both are given the token wins. However it is
// formatted, logged or encoded, it shows nothing of its contents.
type Credential struct {
	APIToken      string
	Email, APIKey string
}

// String shows nothing of the credential.
func (Credential) String() string { return redacted }

// GoString shows nothing of the credential, under %#v too.
func (Credential) GoString() string { return redacted }

// Format shows nothing of the credential, whatever the verb.
func (Credential) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue shows nothing of the credential.
func (Credential) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON shows nothing of the credential.
func (Credential) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// problem says why the credential cannot be sent at all, "" if it can.
func (c Credential) problem() string {
	switch {
	case c.APIToken == "" && (c.Email == "" || c.APIKey == ""):
		return "the credential has neither an API token nor an email with an API key"
	case strings.ContainsFunc(c.APIToken+c.Email+c.APIKey, isControl):
		return "the credential contains a line break or another control character"
	}
	return ""
}

func (c Credential) authorize(h http.Header) {
	if c.APIToken != "" {
		h.Set("Authorization", "Bearer "+c.APIToken)
		return
	}
	h.Set("X-Auth-Email", c.Email)
	h.Set("X-Auth-Key", c.APIKey)
}

// redact removes the credential's secrets from what an upstream sent back.
func (c Credential) redact(s string) string {
	for _, secret := range [...]string{c.APIToken, c.APIKey} {
		if len(secret) >= shortestSecret {
			s = strings.ReplaceAll(s, secret, redacted)
		}
	}
	return s
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
