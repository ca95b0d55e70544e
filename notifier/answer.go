package notifier

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxOutcomeBody = 4 << 10
	maxRetryAfter  = 24 * time.Hour
)

// readBody reads at most limit bytes of an answer. One byte more is asked for so that an answer of just that
// length is seen to end, which lets its connection be used again.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil, nil // its body is the bare connection
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
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

// webhookVerdict is nil for an accepted answer: any 2xx, whatever became of its body, unless the time ran out
// while reading it.
func webhookVerdict(ctx context.Context, resp *http.Response, bodyErr error, now time.Time) error {
	status := resp.StatusCode
	switch {
	case bodyErr != nil && ctx.Err() != nil:
		return transportError(ctx, bodyErr)
	case status >= 200 && status <= 299:
		return nil
	case status == http.StatusGone:
		return &Error{Kind: Gone, Err: fmt.Errorf("the receiver answered %s", statusText(status))}
	case status >= 300 && status <= 399:
		return passing("the receiver answered %s: redirects are not followed", statusText(status))
	}
	failure := passing("the receiver answered %s", statusText(status))
	failure.RetryAfter = retryAfter(status, resp.Header, now)
	return failure
}

// statusText is "503 Service Unavailable", or the number alone. The receiver's own reason phrase is not used.
func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}
