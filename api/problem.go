package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/api/feed"
	"oprelay/storage"
)

const contentTypeProblem = "application/problem+json"

var (
	errNotJSONType = errors.New("the content type is not application/json")
	errTooLarge    = errors.New("the body is over 1 MiB")
	// errGone says that what a request refers to was deleted while it ran.
	errGone = errors.New("deleted meanwhile")
	// errTooManyWaiting says that a key has as many requests waiting as it may.
	errTooManyWaiting = errors.New("too many requests wait")
	// errNotReady says that what a request needs is away; it is wrapped with why.
	errNotReady = errors.New("not ready")
)

// problemKind is one type of problem: what is the same whenever it occurs.
type problemKind struct {
	slug   string // its type is /docs#problem-SLUG
	status int
	title  string
	detail string // unless the occurrence has more to say
}

func (k problemKind) uri() string { return "/docs#problem-" + k.slug }

// The kinds of problem.
//
//nolint:gochecknoglobals // constants that Go cannot declare as such
var (
	problemNotJSON      = problemKind{"not-json", http.StatusBadRequest, "The body is not JSON", "Send one JSON object."}
	problemUnauthorized = problemKind{
		"unauthorized", http.StatusUnauthorized, "A valid API key is needed",
		"Send the header Authorization: Bearer relay_... with a key of this relay.",
	}
	problemForbidden = problemKind{"forbidden", http.StatusForbidden, "The API key may not do this", "Use a key with the scope."}
	problemNotFound  = problemKind{
		"not-found", http.StatusNotFound, "There is no such thing",
		"Check the path and the id; what belongs to another tenant cannot be seen. /docs lists every path.",
	}
	problemMethod = problemKind{
		"method-not-allowed", http.StatusMethodNotAllowed, "This path has no such method",
		"The header Allow lists its methods; /docs describes them.",
	}
	problemInUse = problemKind{
		"in-use", http.StatusConflict, "It is in use",
		"Cancel the watches that name it, or let them end first. " +
			"A destination can also be deleted with ?force=true; a credential can be given another secret with PATCH.",
	}
	problemGone = problemKind{
		"deleted-meanwhile", http.StatusConflict, "What the request refers to was deleted meanwhile",
		"A credential or a destination was deleted while the request ran. Nothing was stored.",
	}
	problemFeedGone = problemKind{
		"feed-gone", http.StatusGone, "This part of the feed has been deleted",
		"The relay has deleted events here, for they are older than its retention. " +
			"begins_after is where the feed begins now: pass it as after.",
	}
	problemDestinationDeleted = problemKind{
		"destination-deleted", http.StatusConflict, "The delivery's destination was deleted",
		"The destination of this delivery was deleted, so there is nowhere to send it. Make a new destination for what is to come.",
	}
	problemRunning = problemKind{
		"still-running", http.StatusConflict, "The first request with this Idempotency-Key is still running",
		"Repeat the request after the time in Retry-After to get its answer.",
	}
	problemTooLarge = problemKind{
		"too-large", http.StatusRequestEntityTooLarge, "The body is over 1 MiB", "Send less at once; a batch can be split.",
	}
	problemNotJSONType = problemKind{
		"not-json-type", http.StatusUnsupportedMediaType, "The content type is not application/json",
		"Send the header Content-Type: application/json, and the body without compression.",
	}
	problemInvalid   = problemKind{"invalid", http.StatusUnprocessableEntity, "Values are wrong", "See errors."}
	problemReusedKey = problemKind{
		"reused-key", http.StatusUnprocessableEntity, "This Idempotency-Key belongs to another request",
		"Use a new key for a new request; the same key repeats the same method, path and body.",
	}
	problemTooManyWaiting = problemKind{
		"too-many-waiting", http.StatusTooManyRequests, "Too many requests of this API key wait already",
		"At most 64 requests of a key may wait for the end of a watch at once, and as many be sent with a body of more " +
			"than 16 KiB. Repeat the request after the time in Retry-After, or ask without wait.",
	}
	problemTooManyStreams = problemKind{
		"too-many-streams", http.StatusTooManyRequests, "Too many streams of this API key are open already",
		fmt.Sprintf("A process of the relay serves at most %d streams of a key at once. End one, or try again after the "+
			"time in Retry-After.", feed.MaxStreams),
	}
	problemRateLimited = problemKind{
		"rate-limited", http.StatusTooManyRequests, "Too many requests with this API key",
		"The header RateLimit-Policy says how many may be made. Repeat the request after the time in Retry-After.",
	}
	problemWrongKeys = problemKind{
		"too-many-wrong-keys", http.StatusTooManyRequests, "Too many wrong API keys from this address",
		"Unknown and revoked keys are counted by the client's address. Correct the key: a valid one is served at once. " +
			"With another wrong one, wait for the time in Retry-After.",
	}
	problemInternal = problemKind{
		"internal", http.StatusInternalServerError, "A fault of the relay",
		"The cause is in the relay's log under the request_id.",
	}
	problemUnavailable = problemKind{
		"unavailable", http.StatusServiceUnavailable, "A part that the relay needs does not answer",
		"Nothing was stored. Repeat the request after the time in Retry-After.",
	}
	problemOutcomeUnknown = problemKind{
		"outcome-unknown", http.StatusServiceUnavailable, "The database went away while it stored the request",
		"It may have been stored or not. Repeat the request after the time in Retry-After: " +
			"with its Idempotency-Key it is done once; without one, look first whether it was done.",
	}
)

// problemKinds lists every kind, for the page that explains them.
func problemKinds() []problemKind {
	return []problemKind{
		problemNotJSON, problemUnauthorized, problemForbidden, problemNotFound, problemMethod, problemInUse,
		problemGone, problemFeedGone, problemDestinationDeleted, problemRunning, problemTooLarge, problemNotJSONType, problemInvalid,
		problemReusedKey, problemTooManyWaiting, problemTooManyStreams, problemRateLimited, problemWrongKeys, problemInternal,
		problemUnavailable, problemOutcomeUnknown,
	}
}

// How long clients are asked to wait, in seconds.
const (
	retryRunning     = 1
	retryWaiting     = 1
	retryStreams     = 5
	retryUnavailable = 5
)

// sentinels is the one table from an error to the problem that it is.
func sentinels() []struct {
	err        error
	kind       problemKind
	retryAfter int
} {
	return []struct {
		err        error
		kind       problemKind
		retryAfter int
	}{
		{storage.ErrNotFound, problemNotFound, 0},
		{storage.ErrDestinationDeleted, problemDestinationDeleted, 0},
		{storage.ErrOutcomeUnknown, problemOutcomeUnknown, retryUnavailable},
		{storage.ErrIdempotencyRunning, problemRunning, retryRunning},
		{storage.ErrIdempotencyMismatch, problemReusedKey, 0},
		{errNotJSONType, problemNotJSONType, 0},
		{errTooLarge, problemTooLarge, 0},
		{errGone, problemGone, 0},
		{errTooManyWaiting, problemTooManyWaiting, retryWaiting},
		{feed.ErrTooMany, problemTooManyStreams, retryStreams},
		{feed.ErrDrained, problemUnavailable, retryStreams},
		{echo.ErrNotFound, problemNotFound, 0},
		{echo.ErrMethodNotAllowed, problemMethod, 0},
		{context.Canceled, problemUnavailable, retryUnavailable},
		{context.DeadlineExceeded, problemUnavailable, retryUnavailable},
	}
}

// occurrence is a problem as it goes out.
type occurrence struct {
	kind       problemKind
	detail     string
	faults     []Fault
	begins     string // see Problem.BeginsAfter
	retryAfter int
	challenge  string // WWW-Authenticate
}

// problemOf says which problem an error is. What it does not know is a fault
// of the relay, and says nothing of its cause.
func problemOf(err error) occurrence {
	var (
		wrong   *invalidError
		noJSON  *notJSONError
		noKey   *unauthorizedError
		noScope *scopeError
		limited *limitedError
		inUse   *storage.InUseError
		gone    *storage.FeedGoneError
	)
	switch {
	case errors.As(err, &wrong):
		return occurrence{kind: problemInvalid, detail: summary(wrong), faults: wrong.faults}
	case errors.As(err, &noJSON):
		return occurrence{kind: problemNotJSON, detail: noJSON.reason}
	case errors.As(err, &noKey):
		return occurrence{kind: problemUnauthorized, detail: noKey.detail(), challenge: noKey.challenge()}
	case errors.As(err, &noScope):
		return occurrence{kind: problemForbidden, detail: noScope.detail(), challenge: noScope.challenge()}
	case errors.As(err, &limited):
		return occurrence{kind: limited.kind, detail: limited.kind.detail, retryAfter: limited.seconds()}
	case errors.As(err, &inUse):
		return occurrence{kind: problemInUse, detail: fmt.Sprintf("Open watches that name it: %d. %s", inUse.Open, problemInUse.detail)}
	case errors.As(err, &gone):
		return occurrence{kind: problemFeedGone, begins: gone.Begins, detail: fmt.Sprintf(
			"The relay has deleted events up to %s, of %s, for they are older than its retention. The feed now begins after %s.",
			gone.Last, gone.At.Format(time.RFC3339), gone.Begins)}
	case errors.Is(err, errNotReady):
		return occurrence{kind: problemUnavailable, detail: err.Error(), retryAfter: retryUnavailable}
	}
	for _, known := range sentinels() {
		if errors.Is(err, known.err) {
			return occurrence{kind: known.kind, detail: known.kind.detail, retryAfter: known.retryAfter}
		}
	}
	if storage.Unavailable(err) {
		detail := "The database " + storage.Complaint(err) + ". " + problemUnavailable.detail
		return occurrence{kind: problemUnavailable, detail: detail, retryAfter: retryUnavailable}
	}
	return occurrence{kind: problemInternal, detail: problemInternal.detail}
}

func summary(wrong *invalidError) string {
	switch {
	case wrong.more:
		return fmt.Sprintf("More than %d values are wrong; errors lists the first of them.", len(wrong.faults))
	case len(wrong.faults) == 1:
		detail := wrong.faults[0].Pointer + " " + wrong.faults[0].Detail
		return strings.TrimSpace(detail) + "."
	}
	return fmt.Sprintf("%d values are wrong; errors lists them.", len(wrong.faults))
}

// writeProblem is the only writer of errors (echo's HTTPErrorHandler). The
// cause itself goes to the log alone, by observe.
func (s *Server) writeProblem(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	o := problemOf(err)
	if o.faults == nil {
		o.faults = []Fault{}
	}
	header := c.Response().Header()
	if o.retryAfter > 0 {
		header.Set(echo.HeaderRetryAfter, strconv.Itoa(o.retryAfter))
	}
	if o.challenge != "" {
		header.Set(echo.HeaderWWWAuthenticate, o.challenge)
	}
	body, failed := marshal(Problem{
		Type:        o.kind.uri(),
		Title:       o.kind.title,
		Status:      o.kind.status,
		Detail:      o.detail,
		Errors:      o.faults,
		BeginsAfter: orNull(o.begins),
		RequestID:   header.Get(echo.HeaderXRequestID),
	})
	if failed == nil {
		failed = c.Blob(o.kind.status, contentTypeProblem, body)
	}
	if failed != nil { // most likely the client is gone
		s.logger.DebugContext(c.Request().Context(), "problem not written", "error", failed)
	}
}
