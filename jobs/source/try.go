package source

import (
	"context"
	"net/http"
	"slices"
)

// maxShownBytes is how much of a body a person is shown.
const maxShownBytes = 2000

// Trial is one poll, for people to look at. It holds no secret.
type Trial struct {
	Answer Answer
	// URL and Request are what was asked, "" and nil if nothing was; of the headers that
	// authenticate it the values are masked.
	URL     string
	Request http.Header
	// Header has those of the answer's headers that matter to the definition or to the relay,
	// Body its body in one line, cut. They are empty if there was no answer.
	Header http.Header
	Body   string
	Rules  []Tried
}

// Try is Poll, and all that a definition's author wants to see of it.
func (c *Client) Try(ctx context.Context, p Poll) Trial {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	x := c.exchange(ctx, p)
	redact := func(s string) string { return p.Credential.Fields.redact(s, x.token) }
	t := Trial{Answer: x.answer.clear(redact)}
	if x.address == nil {
		return t
	}
	t.URL, t.Request = redact(x.address.String()), mask(x.header, p.Source.Upstream)
	if x.response == nil {
		return t
	}
	t.Header, t.Body = http.Header{}, line(redact(text(string(x.response.Body))), maxShownBytes)
	for _, name := range p.Source.heeded() {
		for _, value := range x.response.Header.Values(name) {
			t.Header.Add(name, line(redact(value), maxProblemBytes))
		}
	}
	_, t.Rules = p.Source.Explain(p.OperationID, *x.response)
	for i := range t.Rules {
		t.Rules[i].Why = redact(t.Rules[i].Why)
	}
	return t
}

// heeded are the headers of an answer that mean something.
func (s *Source) heeded() []string {
	quota := s.Upstream.Quota
	names := []string{
		"Content-Type", "Location", "Retry-After", "Retry-After-Ms", "X-Ms-Retry-After-Ms", "X-Poll-Interval",
		quota.Remaining, quota.ResetEpoch, quota.ResetSeconds, quota.IETF,
	}
	for _, rule := range s.Rules {
		for _, c := range rule.When {
			names = append(names, c.Header)
		}
	}
	for i := range names {
		names[i] = http.CanonicalHeaderKey(names[i])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// mask hides the values of all headers but those that the definition and the relay set.
func mask(h http.Header, u *Upstream) http.Header {
	masked := http.Header{}
	for name := range h {
		masked.Set(name, redacted)
	}
	for _, name := range []string{"Accept", "User-Agent"} {
		masked.Set(name, h.Get(name))
	}
	for name, value := range u.Headers {
		if h.Get(name) == value {
			masked.Set(name, value)
		}
	}
	return masked
}
