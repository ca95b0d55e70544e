package source

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Tried is a rule and what became of it with an answer.
type Tried struct {
	Rule    Rule
	Matched bool
	// Why it did not match, "" if it did.
	Why string
}

// Explain is Read, and how each rule fared. The rules after the one that matched are not tried.
func (s *Source) Explain(id string, r Response) (Answer, []Tried) {
	scan := s.reader.read(r.Body)
	defer s.reader.release(scan)
	tried := make([]Tried, len(s.Rules))
	matched := s.match(scan, r)
	for i := range s.Rules {
		rule := &s.Rules[i]
		tried[i] = Tried{Rule: *rule, Matched: i == matched}
		switch miss := rule.miss(scan, r); {
		case matched >= 0 && i > matched:
			tried[i].Why = "not tried"
		case miss >= 0 && !rule.namesHTTP() && !scan.json:
			tried[i].Why = "it names no http, so it needs a 200 with JSON: " + describe(r.Body)
		case miss >= 0 && !rule.namesHTTP() && r.Status != http.StatusOK:
			tried[i].Why = fmt.Sprintf("it names no http, so it needs a 200: this is HTTP %d", r.Status)
		case miss >= 0:
			tried[i].Why = rule.When[miss].found(r)
			if c := rule.When[miss]; !c.Any {
				tried[i].Why += ", not " + strings.Join(c.Values, " or ")
			}
		}
	}
	return s.Read(id, r), tried
}

// Name is the condition's key in a definition.
func (c *Condition) Name() string {
	switch {
	case c.HTTP:
		return "http"
	case c.Header != "":
		return "header:" + c.Header
	}
	return string(c.Pointer)
}

// found is what an answer has where the condition looks.
func (c *Condition) found(r Response) string {
	var values []string
	switch {
	case c.HTTP:
		values = []string{strconv.Itoa(r.Status)}
	case c.Header != "":
		values = r.Header.Values(c.Header)
	default:
		if !json.Valid(r.Body) {
			return c.Name() + " is absent (" + describe(r.Body) + ")"
		}
		values = c.Pointer.values(r.Body)
	}
	if len(values) == 0 {
		return c.Name() + " is absent"
	}
	return c.Name() + " is " + line(strings.Join(values, ", "), maxStatusBytes)
}

// values are what the pointer leads to in a body, as text, for people: the rules are matched
// by the reader.
func (p Pointer) values(body []byte) []string {
	found := []json.RawMessage{body}
	for _, token := range p.Tokens() {
		var next []json.RawMessage
		for _, value := range found {
			next = append(next, members(value, token)...)
		}
		found = next
	}
	var texts []string
	for _, value := range found {
		var text string
		switch err := json.Unmarshal(value, &text); {
		case string(value) == "null":
		case err != nil:
			texts = append(texts, string(value))
		default:
			texts = append(texts, text)
		}
	}
	return texts
}

// members are what a token leads to from a value.
func members(value json.RawMessage, token string) []json.RawMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(value, &object) == nil {
		if member, ok := object[token]; ok {
			return []json.RawMessage{member}
		}
		return nil
	}
	var list []json.RawMessage
	_ = json.Unmarshal(value, &list)
	if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(list) {
		return slices.Clone(list[i : i+1])
	}
	if token == "*" {
		return list
	}
	return nil
}
