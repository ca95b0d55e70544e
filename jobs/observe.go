package jobs

import (
	"time"

	"oprelay/jobs/cloudflare"
	"oprelay/storage"
)

// observe decides what one answer means for one operation. It is pure: the same
// arguments give the same result. random is in [0,1).
func (p PollPolicy) observe(due storage.DuePoll, answer cloudflare.Answer, at time.Time, random float64) storage.PollResult {
	age := at.Sub(due.CreatedAt)
	result := storage.PollResult{
		RowID:         due.RowID,
		At:            at,
		Status:        due.Status,
		Problem:       answer.Problem,
		RefusedSince:  due.RefusedSince,
		RefusedReason: due.RefusedReason,
		Next:          at.Add(p.delay(age, random)),
	}
	switch answer.Outcome {
	case cloudflare.Terminal:
		result.End = answer.Status
		result.Error, result.CompletedAt = answer.Error, answer.CompletedAt
		fallthrough
	case cloudflare.InProgress:
		result.Status = answer.Status
		result.RefusedSince, result.RefusedReason = time.Time{}, ""
		result.CredentialAccepted = true
	case cloudflare.Refused:
		result.CredentialRefused = true
		p.refuse(&result, storage.ReasonCredentialRejected)
	case cloudflare.NotFound:
		p.refuse(&result, storage.ReasonNotFound)
	case cloudflare.RateLimited:
		result.Next = at.Add(p.parkFor(answer.RetryAfter))
	case cloudflare.Inconclusive:
		result.Next = at.Add(p.backOff(age, answer.RetryAfter, random))
	}
	return result
}

// refuse counts a 401, 403 or 404 towards the grace period: such an answer can be
// spurious for a while, or the id younger than the upstream's read replica.
func (p PollPolicy) refuse(result *storage.PollResult, reason string) {
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
