package jobs

import "time"

// maxRetryAfter caps what an upstream or a receiver may ask for, so that a lying
// header cannot park a promise for good.
const maxRetryAfter = 24 * time.Hour

// PollPolicy says when an operation is polled next and when the relay gives up.
type PollPolicy struct {
	// Lag is the share of an operation's age by which its end may be noticed
	// late; Min and Max bound the delay that follows from it.
	Lag      float64
	Min, Max time.Duration
	// UnobservableAfter is how long the upstream may refuse the credential or
	// not know the operation before the watch ends as unobservable.
	UnobservableAfter time.Duration
	// LockOut is the shortest rest after a 429: Cloudflare blocks every call of
	// the user for five minutes once 1,200 requests were made in five.
	LockOut time.Duration
}

// delay is the time until the next poll of an operation of the given age:
// clamp(lag x age, min, max), jittered by 10% to either side. random is in [0,1).
func (p PollPolicy) delay(age time.Duration, random float64) time.Duration {
	wait := min(max(time.Duration(p.Lag*float64(age)), p.Min), p.Max)
	return time.Duration(float64(wait) * (0.9 + 0.2*random))
}

// backOff is the time until the next poll after an answer that told nothing: the
// usual delay or five times the shortest, whichever is longer, and never before
// the upstream's own Retry-After.
func (p PollPolicy) backOff(age, retryAfter time.Duration, random float64) time.Duration {
	wait := max(p.delay(age, random), min(5*p.Min, p.Max))
	return max(wait, min(retryAfter, maxRetryAfter))
}

// parkFor is how long a credential rests after a 429.
func (p PollPolicy) parkFor(retryAfter time.Duration) time.Duration {
	return max(p.LockOut, min(retryAfter, maxRetryAfter))
}

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
	wait := time.Duration(float64(s[step]) * (1 + 0.2*random))
	return max(wait, min(retryAfter, maxRetryAfter)), true
}

// CloudflareLockOut is how long Cloudflare blocks every call of a user that made
// 1,200 requests in five minutes:
// https://developers.cloudflare.com/fundamentals/api/reference/limits/
const CloudflareLockOut = 5 * time.Minute
