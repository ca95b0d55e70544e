package source

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

func (p *parser) source(u *Upstream, key, n *yaml.Node) *Source {
	p.name(key, "a source")
	s := &Source{Name: u.Name + "." + key.Value, Upstream: u}
	from, before := "", len(p.faults)
	at := p.mapping(n, "a source", fields{
		"title":        p.text(&s.Title, "title"),
		"docs":         p.text(&s.Docs, "docs"),
		"path":         p.text(&s.Path, "path"),
		"from":         p.text(&from, "from"),
		"params":       func(n *yaml.Node) { s.Params = p.params(n) },
		"operation_id": func(n *yaml.Node) { s.OperationID = p.param(operationID, n) },
		"id":           func(n *yaml.Node) { s.ID = p.pointer(n) },
		"status":       func(n *yaml.Node) { s.Status = p.pointers(n) },
		"error":        func(n *yaml.Node) { s.Error = p.pointers(n) },
		"completed_at": func(n *yaml.Node) { s.CompletedAt = p.pointers(n) },
		"absent":       func(n *yaml.Node) { s.Absent = p.verdict(n, Pending, Running) },
		"rules":        func(n *yaml.Node) { s.Rules = p.rules(n) },
		"examples":     func(n *yaml.Node) { s.Examples = p.examples(n) },
	}, "title", "operation_id", "status", "rules", "examples")
	switch {
	case n.Kind != yaml.MappingNode:
		return s
	case from != "" && from != "url":
		p.addf(at["from"], "from can only be url, for operations whose id is the URL to ask")
	case (from == "url") == (s.Path != ""):
		p.addf(n, "a source needs either path: /..., or from: url where the operation's id is the URL to ask")
	case from == "url" && len(s.Params) > 0:
		p.addf(at["params"], "a source with from: url has no params; remove them")
	}
	s.Rules = slices.Concat(u.Rules, s.Rules)
	if s.Path != "" {
		p.checkPath(n, at, s)
	}
	p.checkRules(at.of("rules", n), s)
	s.compile()
	if len(p.faults) == before {
		p.checkExample(n, at, s)
	}
	return s
}

func (p *parser) params(n *yaml.Node) []Param {
	var all []Param
	p.each(n, "params", func(key, value *yaml.Node) {
		p.name(key, "a parameter")
		if key.Value == operationID {
			p.addf(key, "operation_id is a key of the source, not one of its params; move it there")
		}
		all = append(all, p.param(key.Value, value))
	})
	return all
}

// param reads a pattern, or a mapping of a pattern and an example.
func (p *parser) param(name string, n *yaml.Node) Param {
	param, at := Param{Name: name}, n
	if n.Kind == yaml.MappingNode {
		at = p.mapping(n, name, fields{
			"pattern": p.text(&param.Pattern, "pattern"), "example": p.text(&param.Example, "example"),
		}, "pattern").of("pattern", n)
	} else {
		p.text(&param.Pattern, "the pattern of "+name)(n)
	}
	if param.Pattern == "" {
		return param // said already
	}
	matcher, err := regexp.Compile(`\A(?:` + param.Pattern + `)\z`)
	if _, alone := regexp.Compile(param.Pattern); err != nil || alone != nil {
		p.addf(at, "the pattern of %s is no regular expression: %v", name, cause(cmp.Or(alone, err)))
		return param
	}
	if param.matcher = matcher; param.Example != "" && !matcher.MatchString(param.Example) {
		p.addf(at, "the example of %s does not match its pattern", name)
	}
	return param
}

func cause(err error) error {
	return cmp.Or(errors.Unwrap(err), err)
}

func (p *parser) pointer(n *yaml.Node) Pointer {
	fault := Pointer(n.Value).fault()
	if n.Kind != yaml.ScalarNode || fault != "" {
		p.addf(n, "%q is no JSON pointer: %s", n.Value, cmp.Or(fault, "it is no text"))
		return ""
	}
	return Pointer(n.Value)
}

func (p *parser) pointers(n *yaml.Node) []Pointer {
	var all []Pointer
	for _, item := range items(n) {
		all = append(all, p.pointer(item))
	}
	if len(all) == 0 {
		p.addf(n, "this has to be a JSON pointer such as /status, or a list of them")
	}
	return all
}

func (p *parser) rules(n *yaml.Node) []Rule {
	if n.Kind != yaml.SequenceNode {
		p.addf(n, "rules have to be a list of {when: {...}, as: ...}")
		return nil
	}
	all := make([]Rule, 0, len(n.Content))
	for _, item := range n.Content {
		rule := Rule{Line: item.Line}
		p.mapping(item, "a rule", fields{
			"when": func(n *yaml.Node) { rule.When = p.when(n) },
			"as":   func(n *yaml.Node) { rule.As = p.verdict(n, Verdicts()...) },
		}, "when", "as")
		all = append(all, rule)
	}
	return all
}

func (p *parser) when(n *yaml.Node) []Condition {
	var all []Condition
	read := p.each(n, "when", func(key, value *yaml.Node) {
		var c Condition
		header, isHeader := strings.CutPrefix(key.Value, "header:")
		switch {
		case key.Value == "http":
			c.HTTP = true
		case isHeader && isHeaderName(header):
			c.Header = header
		case strings.HasPrefix(key.Value, "/"):
			c.Pointer = p.pointer(key)
		default:
			p.addf(key, "%q is no condition; write a JSON pointer such as /status, http, or header:NAME", key.Value)
			return
		}
		c.Values = p.values(value)
		c.Any = slices.Contains(c.Values, "*")
		if c.HTTP && !c.Any {
			c.statuses = p.statuses(value)
		}
		all = append(all, c)
	})
	if read && len(n.Content) == 0 {
		p.addf(n, "a rule needs a condition, such as /status: done")
	}
	return all
}

// values are what a condition compares with, as JSON writes them.
func (p *parser) values(n *yaml.Node) []string {
	var all []string
	for _, item := range items(n) {
		switch {
		case item.Kind == yaml.ScalarNode && item.Tag == "!!null":
			p.addf(item, "null counts as absent: no value matches it, and \"*\" matches any other")
		case item.Kind != yaml.ScalarNode || item.Value == "":
			p.addf(item, "a condition has to be a value, a list of values, or \"*\" for any but null")
		case item.Tag == "!!bool":
			all = append(all, strings.ToLower(item.Value))
		default:
			all = append(all, item.Value)
		}
	}
	if len(items(n)) == 0 {
		p.addf(n, "a condition has to be a value, a list of values, or \"*\" for any but null")
	}
	return all
}

// statuses reads HTTP statuses, and classes of them such as 4xx.
func (p *parser) statuses(n *yaml.Node) (all statuses) {
	for _, item := range items(n) {
		if class, ok := strings.CutSuffix(item.Value, "xx"); ok && len(class) == 1 && class >= "1" && class <= "5" {
			first := int(class[0]-'0') * 100
			for status := first; status < first+100; status++ {
				all.add(status)
			}
			continue
		}
		status, err := strconv.Atoi(item.Value)
		if err != nil || status < 100 || status > 599 {
			p.addf(item, "http has to be a status, a class, or a list of them, such as 403, 4xx or [401, 403]: not %q", item.Value)
			continue
		}
		all.add(status)
	}
	return all
}

func (p *parser) verdict(n *yaml.Node, of ...Verdict) Verdict {
	if !slices.Contains(of, Verdict(n.Value)) {
		p.addf(n, "%q is none of %s", n.Value, join(of))
	}
	return Verdict(n.Value)
}

func join[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = string(one)
	}
	return strings.Join(texts, ", ")
}
