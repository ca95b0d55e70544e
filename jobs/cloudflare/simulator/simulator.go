// Package simulator stands in for Cloudflare's status endpoint of Lists bulk
// operations: in its shapes, with its limits, and with every way in which it
// has been seen to misbehave, on request.
//
// A [Simulator] is an http.Handler. What it is asked to do comes from Go
// ([Simulator.Add], [Simulator.AddFault]) or over HTTP, under /_sim/; GET /
// tells how. It remembers every operation it was ever asked about, so it is for
// tests and demonstrations, not for the open network.
package simulator

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const defaultKeepRequests = 10_000

// Config is how a simulator behaves towards everybody. Its zero value knows
// only operations that were added, accepts every credential and limits requests
// as Cloudflare does.
type Config struct {
	// Default is the plan of operations that nobody added, from the moment each
	// is first asked about; nil answers 404 to them.
	Default *Plan
	// FailRate is the share (0 to 1) of such operations that end failed, chosen
	// by a hash of the id: the same ids fail every time.
	FailRate float64
	// AcceptedTokens are the API tokens and API keys that are let in; none means
	// that any is.
	AcceptedTokens []string
	// Limit locks a credential out that asks too often.
	Limit Limit
	// Seed makes random faults repeatable.
	Seed uint64
	// KeepRequests is how many of the latest requests are remembered; zero means
	// 10,000.
	KeepRequests int
	// Now is the clock of plans, limits and records; nil means [time.Now].
	Now func() time.Time
}

// Simulator serves the status endpoint, its own control API and an index page.
// It is safe for concurrent use.
type Simulator struct {
	config     Config
	now        func() time.Time
	control    http.Handler
	misbehaves map[string]misbehaviour

	mu         sync.Mutex
	random     *rand.Rand
	operations map[operationKey]*operation
	faults     []*rule
	limits     *limiter
	requests   *requestLog
}

type operationKey struct{ account, id string }

// New makes a simulator, or says what is wrong with config.Default or the rate.
func New(config Config) (*Simulator, error) {
	s := &Simulator{
		config:     config,
		now:        config.Now,
		misbehaves: make(map[string]misbehaviour),
		random:     rand.New(rand.NewPCG(config.Seed, config.Seed)),
		operations: make(map[operationKey]*operation),
		limits:     newLimiter(config.Limit),
		requests:   newRequestLog(cmp.Or(config.KeepRequests, defaultKeepRequests)),
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, m := range misbehaviours() {
		s.misbehaves[m.name] = m
	}
	if !(config.FailRate >= 0 && config.FailRate <= 1) {
		return nil, fmt.Errorf("fail rate %v is not between 0 and 1", config.FailRate)
	}
	if config.Default != nil {
		if err := s.check(*config.Default); err != nil {
			return nil, fmt.Errorf("default plan: %w", err)
		}
	}
	s.control = s.controlHandler()
	return s, nil
}

// Add makes the operation known, and starts its plan now. An operation of the
// same ids is replaced. The error says what is wrong with the plan.
func (s *Simulator) Add(accountID, operationID string, plan Plan) error {
	if err := s.check(plan); err != nil {
		return fmt.Errorf("operation %s: %w", operationID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.operations[operationKey{accountID, operationID}] = newOperation(plan, s.now())
	return nil
}

// Remove makes the operation as unknown as if it had never been added.
func (s *Simulator) Remove(accountID, operationID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.operations, operationKey{accountID, operationID})
}

// AddFault makes requests go wrong from now on. Of several faults that apply to
// a request the one added first is taken; all come before the plan's own. The
// error says what is wrong with the fault.
func (s *Simulator) AddFault(fault Fault) error {
	if !(fault.Rate >= 0 && fault.Rate <= 1) {
		return fmt.Errorf("fault %s: rate %v is not between 0 and 1", fault.Name, fault.Rate)
	}
	if fault.Name == "" {
		return fmt.Errorf("fault: a name is missing, one of %s", strings.Join(Misbehaviours(), ", "))
	}
	if err := s.checkMisbehaviour(fault.Misbehaviour); err != nil {
		return fmt.Errorf("fault: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &rule{fault: fault, since: s.now()})
	return nil
}

// ClearFaults ends every fault that [Simulator.AddFault] began.
func (s *Simulator) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// ServeHTTP implements [http.Handler].
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/_sim/") {
		s.control.ServeHTTP(w, r)
		return
	}
	s.answer(r).write(w, r)
}

// answer decides, and records, what a request gets.
func (s *Simulator) answer(r *http.Request) *answer {
	key, routed := parsePath(r.URL)
	cred := credentialOf(r.Header)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	a := s.decide(r.Method, key, routed, cred, now)
	s.requests.add(Request{
		Time:         now,
		Credential:   cred.fingerprint,
		Account:      key.account,
		Operation:    key.id,
		Path:         r.URL.EscapedPath(),
		Status:       a.recordedStatus(),
		Misbehaviour: a.spoiledBy,
	})
	return a
}

func (s *Simulator) decide(method string, key operationKey, routed bool, cred credential, now time.Time) *answer {
	if a := cred.refusal(s.config.AcceptedTokens); a != nil {
		return a
	}
	quota := s.limits.take(cred.fingerprint, now)
	if quota.lockedFor > 0 {
		return failure(http.StatusTooManyRequests, 971, "Please wait and consider throttling your request speed").
			retryAfter(quota.lockedFor)
	}

	var a *answer
	var own *rule
	switch op := s.lookUp(key, now); {
	case !routed || op == nil:
		a = failure(http.StatusNotFound, 7003, "No route for the URI")
	case method != http.MethodGet:
		a = failure(http.StatusMethodNotAllowed, 10405, "Method not allowed for this authentication scheme")
	default:
		a, own = op.answer(key.id, now), op.own
	}
	quota.setHeaders(a.header)
	if found := s.rule(own, cred.fingerprint, now); found != nil {
		s.misbehaves[found.fault.Name].apply(found.fault.Misbehaviour, a)
		a.delay = max(a.delay, found.fault.Delay)
		a.retryAfter(found.fault.RetryAfter)
		a.spoiledBy = found.fault.Name
	}
	return a
}

// lookUp finds an operation, and begins it if unknown ones are to be known.
func (s *Simulator) lookUp(key operationKey, now time.Time) *operation {
	op, known := s.operations[key]
	if known || s.config.Default == nil || key.id == "" {
		return op
	}
	plan := *s.config.Default
	if failsByHash(key.id, s.config.FailRate) {
		plan.End = EndFailed
	}
	op = newOperation(plan, now)
	s.operations[key] = op
	return op
}

// rule is the first that applies to this request, nil if none does.
func (s *Simulator) rule(own *rule, fingerprint string, now time.Time) *rule {
	for _, candidate := range s.faults {
		if candidate.applies(fingerprint, now, s.random) {
			return candidate
		}
	}
	if own != nil && own.applies(fingerprint, now, s.random) {
		return own
	}
	return nil
}

// failsByHash spreads ids evenly over [0, 1) and compares with the rate.
func failsByHash(id string, rate float64) bool {
	sum := sha256.Sum256([]byte(id))
	const most = 1 << 53
	return float64(binary.BigEndian.Uint64(sum[:8])>>11)/most < rate
}

// parsePath takes the ids out of the endpoint's path. It reads the escaped form,
// so that an escaped slash stays part of its id.
func parsePath(u *url.URL) (operationKey, bool) {
	path := strings.TrimPrefix(u.EscapedPath(), "/client/v4")
	parts := strings.Split(path, "/")
	if len(parts) != 7 || parts[1] != "accounts" ||
		parts[3] != "rules" || parts[4] != "lists" || parts[5] != "bulk_operations" {
		return operationKey{}, false
	}
	account, accountErr := url.PathUnescape(parts[2])
	id, idErr := url.PathUnescape(parts[6])
	if accountErr != nil || idErr != nil || account == "" || id == "" {
		return operationKey{}, false
	}
	return operationKey{account, id}, true
}
