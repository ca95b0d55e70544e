package simulator

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// End is how an operation ends.
type End string

// The ends of a plan; an empty End is EndCompleted.
const (
	EndCompleted End = "completed"
	EndFailed    End = "failed"
	EndNever     End = "never"
)

// Plan is the life of an operation: pending, then running, then its end.
type Plan struct {
	PendingFor, RunningFor time.Duration
	End                    End
	// Error goes with EndFailed; empty means the example of Cloudflare's
	// documentation.
	Error string
	// Misbehaviour spoils the answers about this operation.
	Misbehaviour Misbehaviour
}

// Misbehaviour is a way to answer wrongly. Its zero value behaves.
type Misbehaviour struct {
	// Name is one of [Misbehaviours].
	Name string
	// For ends it that long after it began: when its operation was added or first
	// asked about, or when its fault was added. Zero means never.
	For time.Duration
	// Times ends it after that many requests; zero means never.
	Times int
	// Status is what "status", "refusal" and "redirect" answer with (200 to 599).
	Status int
	// Code is the error code of "refusal".
	Code int
	// RetryAfter is sent along, in whole seconds, with any misbehaviour.
	RetryAfter time.Duration
	// Delay comes before any misbehaviour; "slow" is nothing else.
	Delay time.Duration
	// Location is where "redirect" points.
	Location string
}

// Fault is a misbehaviour towards everybody, one credential, or some requests.
type Fault struct {
	// Credential is a fingerprint, see [TokenFingerprint]; empty means all.
	Credential string
	// Rate is the share of requests (0 to 1), drawn at random; zero means every
	// request.
	Rate float64
	Misbehaviour
}

// rule is a fault at work.
type rule struct {
	fault Fault
	since time.Time
	used  int
}

func (r *rule) applies(fingerprint string, now time.Time, random *rand.Rand) bool {
	f := r.fault
	switch {
	case f.Credential != "" && f.Credential != fingerprint,
		f.For > 0 && now.Sub(r.since) >= f.For,
		f.Times > 0 && r.used >= f.Times,
		f.Rate > 0 && random.Float64() >= f.Rate:
		return false
	}
	r.used++
	return true
}

// operation is a plan that has begun.
type operation struct {
	plan  Plan
	since time.Time
	own   *rule
}

func newOperation(plan Plan, now time.Time) *operation {
	op := &operation{plan: plan, since: now}
	if plan.Misbehaviour.Name != "" {
		op.own = &rule{fault: Fault{Misbehaviour: plan.Misbehaviour}, since: now}
	}
	return op
}

// answer is the honest one.
func (o *operation) answer(id string, now time.Time) *answer {
	result := &operationResult{ID: id}
	ends := o.since.Add(o.plan.PendingFor + o.plan.RunningFor)
	switch {
	case now.Sub(o.since) < o.plan.PendingFor:
		result.Status = "pending"
	case now.Before(ends) || o.plan.End == EndNever:
		result.Status = "running"
	default:
		result.Status = string(cmp.Or(o.plan.End, EndCompleted))
		completed := ends.UTC().Format(time.RFC3339)
		result.Completed = &completed
	}
	if result.Status == string(EndFailed) {
		result.Error = cmp.Or(o.plan.Error, "This list is at the maximum number of items")
	}
	return success(result)
}

func (s *Simulator) check(plan Plan) error {
	var errs []error
	switch plan.End {
	case "", EndCompleted, EndFailed, EndNever:
	default:
		errs = append(errs, fmt.Errorf("end %q is not completed, failed or never", plan.End))
	}
	if plan.PendingFor < 0 || plan.RunningFor < 0 {
		errs = append(errs, errors.New("a duration is negative"))
	}
	return errors.Join(append(errs, s.checkMisbehaviour(plan.Misbehaviour))...)
}

func (s *Simulator) checkMisbehaviour(m Misbehaviour) error {
	if m == (Misbehaviour{}) {
		return nil
	}
	if _, known := s.misbehaves[m.Name]; !known {
		return fmt.Errorf("misbehaviour %q is not one of %s", m.Name, strings.Join(Misbehaviours(), ", "))
	}
	if m.Status != 0 && (m.Status < 200 || m.Status > 599) {
		return fmt.Errorf("misbehaviour %s: status %d is not between 200 and 599", m.Name, m.Status)
	}
	if m.For < 0 || m.Delay < 0 || m.RetryAfter < 0 || m.Times < 0 || m.Code < 0 {
		return fmt.Errorf("misbehaviour %s: a duration or number is negative", m.Name)
	}
	return nil
}
