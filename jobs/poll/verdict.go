package poll

import (
	"time"

	"oprelay/jobs/source"
	"oprelay/storage"
)

// observe decides what one answer means for one operation. It is pure: the same
// arguments give the same result. planned is the time until the next poll.
func (p Policy) observe(due storage.DuePoll, answer source.Answer, at time.Time, planned time.Duration) storage.PollResult {
	result := storage.PollResult{
		RowID:  due.RowID,
		At:     at,
		Status: due.Status,

		UpstreamStatus: answer.UpstreamStatus,
		Problem:        answer.Problem,
		RefusedSince:   due.RefusedSince,
		RefusedReason:  due.RefusedReason,
		Next:           at.Add(planned),

		CredentialVersion: due.CredentialVersion,
		GraceGap:          p.graceGap(due.Plan.Longest),
	}
	if at.Sub(due.LastPolledAt) > result.GraceGap { // nobody asked: the refusals before count for nothing
		result.RefusedSince = time.Time{}
	}
	switch answer.Verdict {
	case source.Completed, source.Failed:
		result.End = string(answer.Verdict)
		result.Error, result.CompletedAt = answer.Error, answer.CompletedAt
		fallthrough
	case source.Pending, source.Running:
		result.Status = string(answer.Verdict)
		result.RefusedSince, result.RefusedReason = time.Time{}, ""
		result.CredentialAccepted = true
	case source.Refused:
		result.CredentialRefused = true
		p.refuse(&result, storage.ReasonCredentialRejected)
	case source.NotFound:
		p.refuse(&result, storage.ReasonNotFound)
	case source.Limited:
		result.Next = at.Add(p.parkFor(answer.RetryAfter))
	case source.Inconclusive:
		result.Next = at.Add(max(planned, min(5*p.Min, p.Max)))
	}
	if wish := at.Add(min(answer.RetryAfter, maxRetryAfter)); wish.After(result.Next) {
		result.Next = wish
	}
	result.Held = due.Plan.Scarce() && result.Next.Equal(at.Add(planned))
	return result
}

// graceGap is after how long without a poll a refusal begins its grace anew: twice the
// longest interval. A lock-out is no such gap, unless it would be all of the grace.
func (p Policy) graceGap(longest time.Duration) time.Duration {
	return max(2*p.Max, 2*longest, min(2*p.Park, p.UnobservableAfter))
}

// refuse counts a 401, 403 or 404 towards the grace period: such an answer can be
// spurious for a while, or the id younger than the upstream's read replica.
func (p Policy) refuse(result *storage.PollResult, reason string) {
	if result.RefusedSince.IsZero() {
		result.RefusedSince = result.At
	}
	result.RefusedReason = reason
	deadline := result.RefusedSince.Add(p.UnobservableAfter)
	if !result.At.Before(deadline) {
		result.End = storage.WatchUnobservable
		return
	}
	if result.Next.After(deadline) {
		result.Next = deadline
	}
}

const (
	// maxRetryAfter caps what an upstream may ask for, so that a wrong header cannot put
	// off a poll for years.
	maxRetryAfter = 24 * time.Hour
)

// Policy says when an operation is polled next and when the relay gives up.
type Policy struct {
	storage.Intervals
	// UnobservableAfter is how long the upstream may refuse the credential or
	// not know the operation before the watch ends as unobservable.
	UnobservableAfter time.Duration
	// Park is the shortest pause of a budget after an answer that it is used up.
	Park time.Duration
}

// parkFor is how long a budget is parked when it is used up.
func (p Policy) parkFor(retryAfter time.Duration) time.Duration {
	return max(p.Park, min(retryAfter, maxRetryAfter))
}
