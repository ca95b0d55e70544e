// Package simulator stands in for any source: it answers as the examples of the source's
// definition do. An operation is pending, then running, then ends, and every answer can be
// spoiled. It remembers every operation that it was ever asked about, so it is for tests and
// demonstrations, not for the open network.
package simulator

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"oprelay/jobs/source"
)

// Config is how a simulator behaves.
type Config struct {
	Source *source.Source
	// PendingFor and RunningFor are the life of an operation, from when it is first asked about.
	PendingFor, RunningFor time.Duration
	// End is completed, failed or never; "" is completed.
	End string
	// FailRate is the share (0 to 1) of operations that fail instead, by a hash of their ids.
	FailRate float64
	// AcceptedTokens are those that are let in; none means that any is.
	AcceptedTokens []string
	// Misbehave is one of [Misbehaviours], "" for none, and Rate the share of answers (0 to 1)
	// that it spoils.
	Misbehave string
	Rate      float64
	// Seed makes random misbehaviour repeatable.
	Seed uint64
	// Now is the clock of operations; nil means [time.Now].
	Now func() time.Time
}

// Simulator stands in for one source. It is safe for concurrent use.
type Simulator struct {
	config Config
	now    func() time.Time
	path   *regexp.Regexp // nil if the operation's id is the URL

	mu     sync.Mutex
	random *rand.Rand
	began  map[string]time.Time // by the request's URI
}

// New makes a simulator. The error names all that is wrong with the configuration.
func New(config Config) (*Simulator, error) {
	s := &Simulator{
		config: config, now: config.Now, path: pathOf(config.Source),
		random: rand.New(rand.NewPCG(config.Seed, config.Seed)),
		began:  map[string]time.Time{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	var faults []error
	if !slices.Contains([]string{"", "completed", "failed", "never"}, config.End) {
		faults = append(faults, fmt.Errorf("end %q is not completed, failed or never", config.End))
	}
	if !(config.FailRate >= 0 && config.FailRate <= 1 && config.Rate >= 0 && config.Rate <= 1) {
		faults = append(faults, errors.New("a rate is not between 0 and 1"))
	}
	if config.PendingFor < 0 || config.RunningFor < 0 {
		faults = append(faults, errors.New("a duration is negative"))
	}
	if config.Misbehave != "" && !slices.Contains(Misbehaviours(), config.Misbehave) {
		faults = append(faults, fmt.Errorf("misbehaviour %q is not one of %s", config.Misbehave, strings.Join(Misbehaviours(), ", ")))
	}
	needed := []source.Verdict{source.Running, source.Completed}
	if config.End == "failed" || config.FailRate > 0 {
		needed = append(needed, source.Failed)
	}
	for _, verdict := range needed {
		if s.example(verdict) == nil {
			faults = append(faults, fmt.Errorf("the definition of %s has no example that is %s", config.Source.Name, verdict))
		}
	}
	return s, errors.Join(faults...)
}

// pathOf matches the paths of a source's operations.
func pathOf(s *source.Source) *regexp.Regexp {
	if s.Path == "" {
		return nil
	}
	pattern := regexp.QuoteMeta(s.Path)
	pattern = strings.Replace(pattern, regexp.QuoteMeta("{+operation_id}"), `(?P<id>.+)`, 1)
	pattern = strings.Replace(pattern, regexp.QuoteMeta("{operation_id}"), `(?P<id>[^/]+)`, 1)
	pattern = regexp.MustCompile(`\\\{[a-z0-9_]+\\\}`).ReplaceAllString(pattern, `[^/]+`)
	return regexp.MustCompile(pattern + `$`) // below any base
}

// ServeHTTP implements [http.Handler].
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.decide(r).Write(w, r)
}

// decide says what a request gets.
func (s *Simulator) decide(r *http.Request) *Response {
	if !s.accepts(r.Header) {
		return s.refusal(http.StatusUnauthorized)
	}
	id, ok := s.operation(r.URL)
	if !ok || r.Method != http.MethodGet {
		return s.refusal(http.StatusNotFound)
	}
	s.mu.Lock()
	now := s.now()
	if _, known := s.began[r.URL.RequestURI()]; !known {
		s.began[r.URL.RequestURI()] = now
	}
	began := s.began[r.URL.RequestURI()]
	spoiled := s.config.Misbehave != "" && s.random.Float64() < s.config.Rate
	s.mu.Unlock()

	answer := s.honest(id, began, now)
	if spoiled {
		for _, m := range misbehaviours() {
			if m.name == s.config.Misbehave {
				m.apply(s, answer)
			}
		}
	}
	return answer
}

// operation is the id that a URL asks about.
func (s *Simulator) operation(u *url.URL) (id string, ok bool) {
	if s.path == nil {
		return "", true
	}
	match := s.path.FindStringSubmatch(u.EscapedPath())
	if match == nil {
		return "", false
	}
	id, err := url.PathUnescape(match[s.path.SubexpIndex("id")])
	return id, err == nil
}

// accepts says whether a request has a credential that is let in.
func (s *Simulator) accepts(h http.Header) bool {
	if slices.Contains(s.config.Source.Upstream.Auth, source.AuthNone) && len(s.config.AcceptedTokens) == 0 {
		return true
	}
	sent := []string{h.Get("X-Auth-Key")}
	if _, token, ok := strings.Cut(h.Get("Authorization"), " "); ok {
		sent = append(sent, token)
	}
	for _, auth := range s.config.Source.Upstream.Auth {
		if name, ok := strings.CutPrefix(string(auth), string(source.AuthHeader)); ok {
			sent = append(sent, h.Get(name))
		}
	}
	return slices.ContainsFunc(sent, func(token string) bool {
		return token != "" && (len(s.config.AcceptedTokens) == 0 || slices.Contains(s.config.AcceptedTokens, token))
	})
}

// state is what an operation is now, and when it ends.
func (s *Simulator) state(id string, began, now time.Time) (source.Verdict, time.Time) {
	ends := began.Add(s.config.PendingFor + s.config.RunningFor)
	switch {
	case now.Sub(began) < s.config.PendingFor:
		return source.Pending, ends
	case now.Before(ends), s.config.End == "never":
		return source.Running, ends
	case s.config.End == "failed", failsByHash(id, s.config.FailRate):
		return source.Failed, ends
	}
	return source.Completed, ends
}

// failsByHash spreads ids evenly over [0, 1) and compares with the rate.
func failsByHash(id string, rate float64) bool {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(id))
	mixed := sum.Sum64() * 0x9e3779b97f4a7c15 // the last letters of an id reach the first bits
	const most = 1 << 53
	return float64(mixed>>11)/most < rate
}
