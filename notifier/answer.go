package notifier

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxOutcomeBody = 4 << 10
	maxRetryAfter  = 24 * time.Hour
)

// mostPacked is how much of a compressed answer is read beyond what is kept of it: members of gzip that unpack to
// nothing can go on without end.
const mostPacked = 64 << 10

// acceptGzip asks for what readBody unpacks. Asked by the transport itself, the answer would be unpacked without a
// bound on what is read of it.
func acceptGzip(req *http.Request) { req.Header.Set("Accept-Encoding", "gzip") }

// readBody reads at most limit bytes of an answer, unpacked if need be. One byte more is asked for so that an answer
// of just that length is seen to end, which lets its connection be used again. The connection of a longer answer is
// dropped: the answer may be endless.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil, nil // its body is the bare connection
	}
	answer := io.Reader(resp.Body)
	if strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		unpacked, err := gzip.NewReader(io.LimitReader(resp.Body, limit+mostPacked))
		if err != nil {
			return nil, err
		}
		answer = unpacked
	}
	body, err := io.ReadAll(io.LimitReader(answer, limit+1))
	if int64(len(body)) > limit {
		return body[:limit], nil
	}
	return body, err
}

// firstBytes cuts an answer to what an Outcome keeps.
func firstBytes(body []byte) []byte {
	if len(body) > maxOutcomeBody {
		return body[:maxOutcomeBody:maxOutcomeBody]
	}
	return body
}

// retryAfter reads Retry-After (RFC 9110, section 10.2.3: seconds or a date) from the answers it is honoured
// on. Whatever is missing, malformed or past is 0; more than 24 h is 24 h.
func retryAfter(status int, header http.Header, now time.Time) time.Duration {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return 0
	}
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter // all digits, so an error means too large
		}
		return time.Duration(seconds) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), maxRetryAfter)
}

// webhookVerdict is nil for an accepted answer: any 2xx, whatever became of its body.
func webhookVerdict(resp *http.Response, now time.Time) error {
	status := resp.StatusCode
	switch {
	case isSuccess(status):
		return nil
	case status == http.StatusGone:
		return &Error{Kind: Gone, Err: fmt.Errorf("the receiver answered %s", statusText(status))}
	case status >= 300 && status <= 399:
		return passing("the receiver answered %s: redirects are not followed", statusText(status))
	}
	return statusFailure("the receiver", status, resp.Header, now)
}

// statusFailure judges an answer by its status alone, and by the pause that it asks for.
func statusFailure(who string, status int, header http.Header, now time.Time) *Error {
	failure := passing("%s answered %s", who, statusText(status))
	failure.RetryAfter = retryAfter(status, header, now)
	if status == http.StatusTooManyRequests || failure.RetryAfter > 0 {
		failure.Kind = RateLimited
	}
	return failure
}

func isSuccess(status int) bool { return status >= 200 && status <= 299 }

// statusText is "503 Service Unavailable", or the number alone. The receiver's own reason phrase is not used.
func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

const (
	// masked stands in an answer for what was secret in the request.
	masked = "[masked]"
	// shortestSecret keeps a header such as "X-Env: prod" from masking half of an answer. It is also how much of a
	// secret's beginning counts where an answer ends in the middle of one.
	shortestSecret = 8
)

// mask replaces secrets of the request that the answer echoes, as they are or escaped for JSON or for a URL, also
// where the answer was cut in the middle of one. Many receivers echo a request in their errors, and whoever may read
// deliveries sees the answer.
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
