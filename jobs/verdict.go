package jobs

import (
	"errors"
	"time"

	"oprelay/notifier"
	"oprelay/storage"
)

// attempted is what finished attempts, or updates of Slack messages, led to.
type attempted struct {
	deliveries []storage.AttemptResult
	progress   []storage.ProgressResult
	// disable says why the destination must not be sent to any more, "" if it may.
	disable string
	// pauseUntil is when the destination may be sent to again; zero if at once.
	pauseUntil time.Time
}

// join adds what other attempts at the same destination led to.
func (a *attempted) join(other attempted) {
	a.deliveries = append(a.deliveries, other.deliveries...)
	a.progress = append(a.progress, other.progress...)
	if other.disable != "" {
		a.disable = other.disable
	}
	if other.pauseUntil.After(a.pauseUntil) {
		a.pauseUntil = other.pauseUntil
	}
}

// progressRetry is the pause after a Slack message could not be updated. The end
// of the operation is a delivery with a schedule; the steps before it are not.
const progressRetry = 30 * time.Second

// judge decides what follows from one attempt of a delivery: it is accepted, or
// tried again when the schedule says so, or held because the destination is to be
// disabled, or has failed for good. It is pure. random is in [0,1).
func (s RetrySchedule) judge(due storage.DueDelivery, attempt storage.Attempt, err error, random float64) attempted {
	result := storage.AttemptResult{DeliveryID: due.ID, DestinationID: due.DestinationID, AttemptsMade: due.AttemptsMade, Attempt: attempt}
	ended := attempt.StartedAt.Add(attempt.Duration)
	if err == nil {
		result.Status = storage.DeliverySucceeded
		return attempted{deliveries: []storage.AttemptResult{result}}
	}
	result.Attempt.Error = err.Error()
	failure := explain(err)
	if reason := disables(failure); reason != "" {
		result.Status = storage.DeliveryHeld
		return attempted{deliveries: []storage.AttemptResult{result}, disable: reason}
	}
	var a attempted
	if failure.Kind == notifier.RateLimited {
		a.pauseUntil = ended.Add(min(failure.RetryAfter, maxRetryAfter))
	}
	if wait, ok := s.next(due.Step, failure.RetryAfter, random); ok {
		result.Status, result.NextAttemptAt = storage.DeliveryPending, ended.Add(wait)
	} else {
		result.Status = storage.DeliveryFailed
	}
	a.deliveries = []storage.AttemptResult{result}
	return a
}

// judgeProgress decides the same for an update of a Slack message.
func judgeProgress(due storage.DueProgress, ref storage.SlackRef, ended time.Time, err error) attempted {
	result := storage.ProgressResult{WatchID: due.WatchID, Revision: due.Revision, Slack: ref}
	if err == nil {
		return attempted{progress: []storage.ProgressResult{result}}
	}
	failure := explain(err)
	wait := max(progressRetry, min(failure.RetryAfter, maxRetryAfter))
	result.NextAttemptAt = ended.Add(wait)
	a := attempted{progress: []storage.ProgressResult{result}, disable: disables(failure)}
	if failure.Kind == notifier.RateLimited {
		a.pauseUntil = ended.Add(min(failure.RetryAfter, maxRetryAfter))
	}
	return a
}

func explain(err error) *notifier.Error {
	if failure, ok := errors.AsType[*notifier.Error](err); ok {
		return failure
	}
	return &notifier.Error{Kind: notifier.Passing, Err: err}
}

// disables says why a failure disables its destination, "" if it does not.
func disables(failure *notifier.Error) string {
	switch failure.Kind {
	case notifier.Gone:
		return storage.DisabledGone
	case notifier.Rejected:
		return storage.DisabledRejected
	case notifier.Passing, notifier.RateLimited:
	}
	return ""
}
