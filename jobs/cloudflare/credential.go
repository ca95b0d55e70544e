package cloudflare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	redacted = "[redacted]"

	// shortestSecret keeps a nonsense secret of a letter or two from blanking half
	// of every message that passes through [Credential.redact]. Real ones have 37
	// characters or more.
	shortestSecret = 4
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

// redact removes the credential from what an upstream sent back, as it is, in one
// case, or escaped. The email too: nobody is shown it, and what the upstream says
// goes to every destination.
func (c Credential) redact(s string) string {
	if s == "" {
		return ""
	}
	var forms []string
	for _, secret := range [...]string{c.APIToken, c.APIKey, c.Email} {
		if len(secret) >= shortestSecret {
			forms = append(forms, formsOf(secret)...)
		}
	}
	// The longest first, for one secret may begin with another.
	slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	pairs := make([]string, 0, 2*len(forms))
	for _, form := range forms {
		pairs = append(pairs, form, redacted)
	}
	return strings.NewReplacer(pairs...).Replace(s)
}

// formsOf is how an upstream, or this package in quoting it, may write a secret.
func formsOf(secret string) []string {
	var forms []string
	for _, s := range [...]string{secret, strings.ToLower(secret), strings.ToUpper(secret)} {
		quoted := strconv.Quote(s)
		forms = append(forms, s, quoted[1:len(quoted)-1], url.QueryEscape(s), url.PathEscape(s))
		if encoded, err := json.Marshal(s); err == nil {
			forms = append(forms, string(encoded[1:len(encoded)-1]))
		}
	}
	return forms
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
