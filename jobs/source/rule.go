package source

import (
	"net/http"
	"slices"
	"strings"
)

// statuses are HTTP statuses, a bit for each.
type statuses [600/64 + 1]uint64

func (s *statuses) add(status int) { s[status/64] |= 1 << (status % 64) }

func (s *statuses) has(status int) bool {
	return status >= 0 && status < 600 && s[status/64]&(1<<(status%64)) != 0
}

// within says whether all of them are among the others.
func (s *statuses) within(others *statuses) bool {
	for i := range s {
		if s[i]&^others[i] != 0 {
			return false
		}
	}
	return true
}

// holds says whether the condition holds of an answer.
func (c *Condition) holds(scan *scan, r Response) bool {
	switch {
	case c.HTTP:
		return c.Any || c.statuses.has(r.Status)
	case c.Header != "":
		return slices.ContainsFunc(r.Header.Values(c.Header), func(value string) bool {
			return c.Any || slices.Contains(c.Values, strings.TrimSpace(value))
		})
	}
	return scan.held[c.test]
}

// miss is the number of the rule's first condition that does not hold, -1 if the rule matches.
// It is the number of conditions where these hold but name no status, and the answer is no
// 200 with JSON.
func (rule *Rule) miss(scan *scan, r Response) int {
	for i := range rule.When {
		if !rule.When[i].holds(scan, r) {
			return i
		}
	}
	if rule.namesHTTP() || r.Status == http.StatusOK && scan.json {
		return -1
	}
	return len(rule.When)
}

func (rule *Rule) namesHTTP() bool {
	return slices.ContainsFunc(rule.When, func(c Condition) bool { return c.HTTP })
}

// match is the number of the first rule that matches, -1 if none does.
func (s *Source) match(scan *scan, r Response) int {
	for i := range s.Rules {
		if s.Rules[i].miss(scan, r) < 0 {
			return i
		}
	}
	return -1
}

// covers says whether all that the later rule matches is matched by the earlier one.
func covers(earlier, later Rule) bool {
	return !slices.ContainsFunc(earlier.conditions(), func(c Condition) bool {
		return !slices.ContainsFunc(later.conditions(), (&c).implied)
	})
}

// conditions has the status 200 where the rule names none.
func (rule *Rule) conditions() []Condition {
	if rule.namesHTTP() {
		return rule.When
	}
	ok := Condition{HTTP: true}
	ok.statuses.add(http.StatusOK)
	return append(slices.Clone(rule.When), ok)
}

// implied says whether c holds wherever other does.
func (c *Condition) implied(other Condition) bool {
	switch {
	case c.Pointer != other.Pointer || !strings.EqualFold(c.Header, other.Header) || c.HTTP != other.HTTP:
		return false
	case c.Any || other.Any:
		return c.Any
	case c.HTTP:
		return other.statuses.within(&c.statuses)
	}
	return !slices.ContainsFunc(other.Values, func(v string) bool { return !slices.Contains(c.Values, v) })
}
