package cloudflare

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Outcome is what a poll means for the operation.
type Outcome string

// The outcomes, decided by the HTTP status first: Cloudflare's error codes are
// overloaded (10000 has meant authentication and throttling both).
const (
	// InProgress: the operation is pending or running.
	InProgress Outcome = "in_progress"
	// Terminal: the operation is completed or failed, and will not change.
	Terminal Outcome = "terminal"
	// Inconclusive: the poll told nothing about the operation. Poll again.
	Inconclusive Outcome = "inconclusive"
	// Refused: the credential was not accepted. It can be spurious for a while.
	Refused Outcome = "refused"
	// NotFound: the upstream does not know the operation, or not yet.
	NotFound Outcome = "not_found"
	// RateLimited: every further call with this credential fails for minutes.
	RateLimited Outcome = "rate_limited"
)

// The four values of an operation's status.
const (
	StatusPending   = "pending"
	StatusRunning   = "running"
	StatusCompleted = "completed"
	StatusFailed    = "failed"
)

const (
	maxErrorBytes   = 4 << 10
	maxProblemBytes = 300
)

// Answer is what one poll found out. It never holds a secret.
type Answer struct {
	Outcome Outcome

	// Status is pending, running, completed or failed, and "" unless Outcome is
	// InProgress or Terminal.
	Status string
	// Error is the upstream's message for a failed operation, "" if it gave none:
	// valid UTF-8 without NUL, at most 4 KiB.
	Error string
	// CompletedAt is when a terminal operation ended by the upstream's account,
	// in UTC; zero if absent or unreadable, which makes it no less terminal.
	CompletedAt time.Time

	// Problem is one line for people about every other outcome.
	Problem string
	// RetryAfter is the upstream's wish, at most a day; 0 if it has none. It can
	// come with any HTTP status.
	RetryAfter time.Duration
	// Quota is what the upstream says is left of the credential's budget; nil if
	// it does not say. A hint: the header is often missing or constant.
	Quota *Quota
	// HTTPStatus is 0 if there was no answer.
	HTTPStatus int
}

// Quota is what is left of a rate limit.
type Quota struct {
	// Remaining is how many requests are left.
	Remaining int
	// Reset is when the limit starts anew, at most a day; 0 if not said.
	Reset time.Duration
}

// clear makes what the upstream wrote fit to store and to send on. The secrets go
// before the cut, which may leave half of one, and after what text drops, which
// may stand in the middle of one.
func (a Answer) clear(cred Credential) Answer {
	a.Problem = line(cred.redact(a.Problem))
	a.Error = cut(cred.redact(text(a.Error)), maxErrorBytes)
	return a
}

// line makes one line of at most maxProblemBytes out of anything.
func line(s string) string {
	return cut(strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r)
	}), " "), maxProblemBytes)
}

// text makes what databases and JSON can hold out of anything.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// cut shortens s to at most limit bytes without splitting a rune.
func cut(s string, limit int) string {
	const ellipsis = "…"
	if len(s) <= limit {
		return s
	}
	end := limit - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}
