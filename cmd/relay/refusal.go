package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"oprelay/api/client"
)

// maxRetryAfter bounds what a relay, or a proxy in front of it, may ask to wait.
const maxRetryAfter = 24 * time.Hour

// refusedError is an answer that is no success.
type refusedError struct {
	status     int
	problem    client.Problem // empty if it is not a relay's
	retryAfter time.Duration
	location   string // of a redirect
}

// refusalOf is nil for the success of a relay. What is answered without JSON is not a relay's.
func refusalOf(response *http.Response, body []byte) *refusedError {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if response.StatusCode/100 == 2 && kind == "application/json" {
		return nil
	}
	refused := &refusedError{
		status:     response.StatusCode,
		retryAfter: retryAfterOf(response.Header.Get("Retry-After"), time.Now()),
		location:   response.Header.Get("Location"),
	}
	if kind == "application/problem+json" {
		_ = json.Unmarshal(body, &refused.problem) // what is none stays empty
	}
	return refused
}

// retryAfterOf reads seconds or an HTTP date; zero for neither.
func retryAfterOf(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}

// Error is the answer in a line.
func (e *refusedError) Error() string {
	if e.problem.Title == "" {
		return fmt.Sprintf("it answers %d %s", e.status, http.StatusText(e.status))
	}
	return plain(fmt.Sprintf("%s (%d): %s", e.problem.Title, e.status, e.problem.Detail))
}

// passes says whether the same request may be answered otherwise later.
func (e *refusedError) passes() bool {
	switch e.status {
	case http.StatusTooManyRequests:
		return true
	case http.StatusConflict:
		return e.retryAfter > 0 // the first request with the Idempotency-Key is still running
	}
	return e.status >= http.StatusInternalServerError
}

// complaint says what is wrong with the relay.
func (c *connection) complaint(err error) string {
	what := "does not answer"
	if limited(err) {
		what = "takes no more requests now"
	}
	return fmt.Sprintf("The relay at %s %s: %s", c.url, what, strings.TrimRight(plain(err.Error()), "."))
}

// explain turns an error of ask into one that says what to do.
func (c *connection) explain(err error) error {
	refused := (*refusedError)(nil)
	if !errors.As(err, &refused) {
		return fmt.Errorf("the relay at %s does not answer: %w\nIs it running there, and is RELAY_URL right?", c.url, err)
	}
	switch {
	case refused.status/100 == 3:
		return fmt.Errorf("%s redirects to %q: set RELAY_URL to where the relay is", c.url, refused.location)
	case refused.problem.Title == "":
		return fmt.Errorf("%s does not answer as a relay does: %w\nIs RELAY_URL right?", c.url, refused)
	case refused.status == http.StatusUnauthorized:
		return fmt.Errorf("the relay at %s refuses the API key: %s\n"+
			"Set RELAY_API_KEY to one of its keys. Where the relay runs, make one with: relay keys create --name me --scope write",
			c.url, plain(refused.problem.Detail))
	case refused.status == http.StatusForbidden:
		return fmt.Errorf("the API key may not do this: %s", plain(refused.problem.Detail))
	case len(refused.problem.Errors) > 0:
		return errors.Join(faultsOf(refused.problem.Errors)...)
	}
	return refused
}

// faultsOf names wrong values as the command line does.
func faultsOf(faults []client.Fault) (all []error) {
	flags := map[string]string{ //nolint:gosec // no credentials
		"operation_id": "OPERATION_ID", "account_id": "--account", "credential_id": "--credential",
		"destination_ids": "--destination", "timeout_seconds": "--timeout", "metadata": "--metadata", "name": "--name",
		"source": "--source", "params": "--param", "?after": "--since", "?type": "--type",
	}
	for _, fault := range faults {
		field, rest, _ := strings.Cut(strings.TrimPrefix(fault.Pointer, "/"), "/")
		flag, known := flags[field]
		if !known {
			flag, rest = fault.Pointer, ""
		}
		if n, err := strconv.Atoi(rest); err == nil {
			rest = fmt.Sprintf("#%d", n+1)
		}
		all = append(all, errors.New(plain(strings.TrimSpace(flag+" "+rest)+": "+fault.Detail)))
	}
	return all
}
