package deliver

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
	// fault is what went wrong last, or has the destination disabled; "" if all went well.
	fault string
	// pauseUntil is when the destination may be sent to again; zero if at once.
	pauseUntil time.Time
	// began is when the attempt began that has the destination disabled or paused.
	began time.Time
	// digest says that one message told of all of these.
	digest bool
	// place is the message's among those that are not recorded yet.
	place *place
}

// join adds what other attempts at the same destination led to.
func (a *attempted) join(other attempted) {
	a.deliveries = append(a.deliveries, other.deliveries...)
	a.progress = append(a.progress, other.progress...)
	if other.fault != "" && (a.disable == "" || other.disable != "") {
		a.fault = other.fault
	}
	if other.disable != "" {
		a.disable, a.began = other.disable, other.began
	}
	if other.pauseUntil.After(a.pauseUntil) {
		a.pauseUntil = other.pauseUntil
	}
}

// progressRetry is the pause after a Slack message could not be updated. The end
// of the operation is a delivery with a schedule; the steps before it are not.
const progressRetry = 30 * time.Second

// tried is one attempt that has ended.
type tried struct {
	attempt   storage.Attempt
	accepting bool // the destination was not failing before
	err       error
	random    float64 // in [0,1)
}

// judge decides what follows from one attempt of a delivery: it is accepted, or
// tried again after the pause that the receiver asks for or when the schedule says so,
// or held because the destination is to be disabled, or has failed for good. It is pure.
func (s RetrySchedule) judge(due storage.DueDelivery, t tried) attempted {
	result := storage.AttemptResult{DeliveryID: due.ID, DestinationID: due.DestinationID, AttemptsMade: due.AttemptsMade, Attempt: t.attempt}
	ended := t.attempt.StartedAt.Add(t.attempt.Duration)
	if t.err == nil {
		result.Status = storage.DeliverySucceeded
		return attempted{deliveries: []storage.AttemptResult{result}}
	}
	result.Attempt.Error = t.err.Error()
	failure := explain(t.err)
	if reason := disables(failure); reason != "" {
		result.Status = storage.DeliveryHeld
		return attempted{deliveries: []storage.AttemptResult{result}, disable: reason}
	}
	pause := pauseAfter(failure, t.random)
	if pause > 0 {
		result.PauseUntil = ended.Add(pause)
	}
	result.Postponed = postponed(due, failure, pause, t.accepting)
	wait, left := s.next(due.Step, pause, t.random)
	switch {
	case result.Postponed > 0:
		result.Status, result.NextAttemptAt = storage.DeliveryPending, result.PauseUntil
	case left:
		result.Status, result.NextAttemptAt = storage.DeliveryPending, ended.Add(wait)
	default:
		result.Status = storage.DeliveryFailed
	}
	return attempted{deliveries: []storage.AttemptResult{result}, pauseUntil: result.PauseUntil}
}

// judgeProgress decides the same for an update of a Slack message, which leaves ref.
func judgeProgress(due storage.DueProgress, ref storage.SlackRef, t tried) attempted {
	result := storage.ProgressResult{WatchID: due.WatchID, Revision: due.Revision, Slack: ref}
	if t.err == nil {
		return attempted{progress: []storage.ProgressResult{result}}
	}
	ended, failure := t.attempt.StartedAt.Add(t.attempt.Duration), explain(t.err)
	pause := pauseAfter(failure, t.random)
	if pause > 0 {
		result.PauseUntil = ended.Add(pause)
	}
	result.NextAttemptAt = ended.Add(max(progressRetry, pause))
	return attempted{progress: []storage.ProgressResult{result}, disable: disables(failure), pauseUntil: result.PauseUntil}
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
	case notifier.Passing, notifier.RateLimited, notifier.Own:
	}
	return ""
}

// maxRetryAfter caps what a receiver may ask for, so that a wrong header cannot put off a
// delivery for years.
const maxRetryAfter = 24 * time.Hour

// RetrySchedule holds the delays between the attempts of a delivery: n delays
// make n+1 attempts.
type RetrySchedule []time.Duration

// next is the delay after the failed attempt number step (0 for the first), and
// false if that was the last. Each delay is jittered by up to 20% upwards, and a
// receiver's Retry-After can lengthen it but never shorten it. random is in [0,1).
func (s RetrySchedule) next(step int, retryAfter time.Duration, random float64) (time.Duration, bool) {
	if step >= len(s) {
		return 0, false
	}
	return max(jittered(s[step], random), min(retryAfter, maxRetryAfter)), true
}

// jittered is up to 20% more than wait. random is in [0,1).
func jittered(wait time.Duration, random float64) time.Duration {
	return time.Duration(float64(wait) * (1 + 0.2*random))
}
