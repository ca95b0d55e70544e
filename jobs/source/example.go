package source

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"go.yaml.in/yaml/v4"
)

func (p *parser) examples(n *yaml.Node) []Example {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		p.addf(n, "examples have to be a list of {http: 200, body: {...}, as: ...}")
		return nil
	}
	all := make([]Example, 0, len(n.Content))
	for _, item := range n.Content {
		all = append(all, p.example(item))
	}
	return all
}

func (p *parser) example(n *yaml.Node) Example {
	e := Example{Line: n.Line, HTTP: http.StatusOK, Header: map[string]string{}}
	text := func(into **string) func(*yaml.Node) {
		return func(n *yaml.Node) {
			if *into = &n.Value; n.Kind != yaml.ScalarNode {
				p.addf(n, "status and error of an example have to be texts")
			}
		}
	}
	p.mapping(n, "an example", fields{
		"http": func(n *yaml.Node) {
			status, err := strconv.Atoi(n.Value)
			if e.HTTP = status; err != nil || status < 100 || status > 599 {
				p.addf(n, "http of an example has to be a status such as 200: not %q", n.Value)
			}
		},
		"headers": func(n *yaml.Node) {
			p.each(n, "headers", func(key, value *yaml.Node) {
				var text string
				p.text(&text, "the header "+key.Value)(value)
				e.Header[key.Value] = text
			})
		},
		"body":         func(n *yaml.Node) { e.Body = p.body(n) },
		"operation_id": p.text(&e.OperationID, "operation_id"),
		"as":           func(n *yaml.Node) { e.As = p.verdict(n, Verdicts()...) },
		"status":       text(&e.Status),
		"error":        text(&e.Error),
		"completed_at": func(n *yaml.Node) {
			at, err := time.Parse(time.RFC3339, n.Value)
			if e.CompletedAt = &at; err != nil {
				p.addf(n, "completed_at of an example has to be an RFC 3339 time such as 2026-01-02T03:04:05Z")
			}
		},
	}, "as")
	return e
}

// body is a text as it stands, and anything else as JSON.
func (p *parser) body(n *yaml.Node) []byte {
	if n.Kind == yaml.ScalarNode {
		return []byte(n.Value)
	}
	var value any
	err := n.Decode(&value)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(value); err == nil {
			return text
		}
	}
	p.addf(n, "the body cannot be written as JSON: %v", err)
	return nil
}

// runExamples notes each example whose answer is read in another way than it says.
func (p *parser) runExamples(u *Upstream) {
	for _, s := range u.Sources {
		for _, e := range s.Examples {
			if fault := s.tryExample(e); fault != "" {
				p.faultf(e.Line, "this example of %s %s", s.Name, fault)
			}
		}
	}
}

// Response is what the example answers.
func (e Example) Response() Response {
	header := http.Header{}
	for name, value := range e.Header {
		header.Set(name, value)
	}
	return Response{Status: e.HTTP, Header: header, Body: e.Body}
}

// tryExample says in what its answer is read otherwise, "" if it is not.
func (s *Source) tryExample(e Example) string {
	a := s.Read(cmp.Or(e.OperationID, s.OperationID.Example), e.Response())
	switch {
	case a.Verdict != e.As:
		return fmt.Sprintf("is %s, not %s: %s", a.Verdict, e.As, s.because(a))
	case e.Status != nil && a.UpstreamStatus != *e.Status:
		return fmt.Sprintf("has the status %q, not %q", a.UpstreamStatus, *e.Status)
	case e.Error != nil && a.Error != *e.Error:
		return fmt.Sprintf("has the error %q, not %q", a.Error, *e.Error)
	case e.CompletedAt != nil && !a.CompletedAt.Equal(*e.CompletedAt):
		return fmt.Sprintf("was completed at %s, not %s", a.CompletedAt.Format(time.RFC3339Nano), e.CompletedAt.Format(time.RFC3339Nano))
	}
	return ""
}

// because says what decided an answer.
func (s *Source) because(a Answer) string {
	decided := "no rule matched"
	if a.Rule >= 0 {
		decided = fmt.Sprintf("the rule at line %d matched", s.Rules[a.Rule].Line)
	}
	if a.Problem != "" {
		decided += "; " + a.Problem
	}
	return decided
}
