package notifier

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

const (
	// masked stands in an answer for what was secret in the request.
	masked = "[masked]"
	// shortestSecret keeps a header such as "X-Env: prod" from masking half of an answer. It is also how much of a
	// secret's beginning counts where an answer ends in the middle of one.
	shortestSecret = 8
)

// mask replaces secrets of the request that the answer echoes, as they are or escaped for JSON or for a URL, also
// where the answer was cut in the middle of one. The answer is kept and shown; the secrets are not.
func mask(body []byte, secrets ...string) []byte {
	if len(body) == 0 {
		return body
	}
	forms := secretForms(secrets)
	for _, form := range forms {
		body = bytes.ReplaceAll(body, form, []byte(masked))
	}
	for _, form := range forms {
		for n := min(len(form)-1, len(body)); n >= shortestSecret; n-- {
			if bytes.HasSuffix(body, form[:n]) {
				return append(body[:len(body)-n:len(body)-n], masked...)
			}
		}
	}
	return body
}

// secretForms is every form in which the secrets may come back, the longest first: a scheme is a part of a header's
// value, and the token after it may come back alone.
func secretForms(secrets []string) [][]byte {
	var forms [][]byte
	for _, secret := range secrets {
		for _, part := range append(strings.Fields(secret), secret) {
			if len(part) < shortestSecret {
				continue
			}
			quoted, err := json.Marshal(part)
			if err != nil {
				continue // a string never fails
			}
			plain := strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(string(quoted))
			for _, form := range []string{
				part, string(quoted[1 : len(quoted)-1]), plain[1 : len(plain)-1], url.QueryEscape(part), url.PathEscape(part),
			} {
				forms = append(forms, []byte(form))
			}
		}
	}
	slices.SortFunc(forms, func(a, b []byte) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), bytes.Compare(a, b))
	})
	return slices.CompactFunc(forms, bytes.Equal)
}
