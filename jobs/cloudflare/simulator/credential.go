package simulator

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
)

// TokenFingerprint is how records and faults name an API token: "token:" and the
// first 12 hex digits of its SHA-256.
func TokenFingerprint(token string) string { return fingerprint("token:", token) }

// EmailFingerprint names an email with an API key, in the same way by the email.
func EmailFingerprint(email string) string { return fingerprint("email:", email) }

func fingerprint(kind, value string) string {
	sum := sha256.Sum256([]byte(value))
	return kind + hex.EncodeToString(sum[:])[:12]
}

// credential is what a request was signed with; no fingerprint if with nothing.
type credential struct{ fingerprint, secret string }

func credentialOf(h http.Header) credential {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") && token != "" {
		return credential{TokenFingerprint(token), token}
	}
	email, key := h.Get("X-Auth-Email"), h.Get("X-Auth-Key")
	if email != "" && key != "" {
		return credential{EmailFingerprint(email), key}
	}
	return credential{}
}

// refusal is nil if the credential is let in.
func (c credential) refusal(accepted []string) *answer {
	switch {
	case c.secret == "":
		return failure(http.StatusUnauthorized, 10000, "Authentication error")
	case len(accepted) > 0 && !slices.Contains(accepted, c.secret):
		return failure(http.StatusForbidden, 9109, "Invalid access token")
	}
	return nil
}
