package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// parser reads one file, and notes all that is wrong with it.
type parser struct {
	file   string
	faults Faults
}

func (p *parser) addf(at *yaml.Node, format string, args ...any) {
	p.faultf(at.Line, format, args...)
}

func (p *parser) faultf(line int, format string, args ...any) {
	p.faults = append(p.faults, Fault{p.file, line, fmt.Sprintf(format, args...)})
}

// document reads the one mapping that a file has; nil if it has another thing.
func (p *parser) document(text []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	err := decoder.Decode(&document)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		p.faultf(syntaxLine(err), "not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil
	case err != nil, len(document.Content) != 1, document.Content[0].Kind != yaml.MappingNode:
		p.faultf(1, "a definition is a mapping that begins with: upstream: NAME")
		return nil
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		p.addf(&more, "a file has one definition; put what follows --- into a file of its own")
	}
	p.refuseAliases(document.Content[0])
	if len(p.faults) > 0 {
		return nil
	}
	return document.Content[0]
}

// refuseAliases keeps a small file from becoming a huge one.
func (p *parser) refuseAliases(n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		p.addf(n, "the alias *%s is not read here; write the value out", n.Value)
	}
	for _, sub := range n.Content {
		p.refuseAliases(sub)
	}
}

// syntaxLine is 0 if the error tells none.
func syntaxLine(err error) int {
	if syntax, ok := errors.AsType[*yaml.LoadError](err); ok {
		return syntax.Mark.Line
	}
	return 0
}

// fields are what reads the value of each key of a mapping.
type fields map[string]func(value *yaml.Node)

// places are the values of a mapping, by key.
type places map[string]*yaml.Node

// of is where to report a fault of the key: its value, or what holds it.
func (at places) of(key string, holder *yaml.Node) *yaml.Node {
	if n := at[key]; n != nil {
		return n
	}
	return holder
}

// mapping reads a mapping with no other keys than these, of which some are required.
func (p *parser) mapping(n *yaml.Node, what string, known fields, required ...string) places {
	given := places{}
	if !p.each(n, what, func(key, value *yaml.Node) {
		given[key.Value] = value
		if read, ok := known[key.Value]; ok {
			read(value)
			return
		}
		p.addf(key, "%s has no key %q; its keys are %s", what, key.Value, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}) {
		return given
	}
	for _, key := range required {
		if given[key] == nil {
			p.addf(n, "%s needs the key %s", what, key)
		}
	}
	return given
}

// each calls do for each pair of a mapping, in the order of the file. It is false if there is none.
func (p *parser) each(n *yaml.Node, what string, do func(key, value *yaml.Node)) bool {
	if n.Kind != yaml.MappingNode {
		p.addf(n, "%s has to be a mapping, {KEY: VALUE}", what)
		return false
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			p.addf(key, "a key of %s has to be a text", what)
		case seen[key.Value]:
			p.addf(key, "%s has the key %q twice; remove one", what, key.Value)
		default:
			do(key, value)
		}
		seen[key.Value] = true
	}
	return true
}

// text reads a scalar.
func (p *parser) text(into *string, what string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "" {
			p.addf(n, "%s has to be a text", what)
			return
		}
		*into = n.Value
	}
}

// items are the elements of a list, or the one value that stands for a list of it.
func items(n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.SequenceNode {
		return n.Content
	}
	return []*yaml.Node{n}
}

// texts reads a scalar or a list of scalars.
func (p *parser) texts(n *yaml.Node, what string) []string {
	var all []string
	for _, item := range items(n) {
		var text string
		p.text(&text, what)(item)
		all = append(all, text)
	}
	if len(all) == 0 {
		p.addf(n, "%s has to be a text or a list of texts", what)
	}
	return all
}

func (p *parser) duration(into *time.Duration, what string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		d, err := time.ParseDuration(n.Value)
		if err != nil || d < 0 || d > longestWait {
			p.addf(n, "%s has to be a time such as 30s or 5m, at most 24h", what)
			return
		}
		*into = d
	}
}

// mostRequests bounds a rate, so that no arithmetic with it overflows.
const mostRequests = 1_000_000

// rate reads N/PERIOD.
func (p *parser) rate(into *Rate, what string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		count, period, _ := strings.Cut(n.Value, "/")
		requests, err := strconv.Atoi(count)
		per, badPeriod := time.ParseDuration(period)
		if err != nil || badPeriod != nil || requests < 1 || requests > mostRequests || per < time.Second || per > longestWait {
			p.addf(n, "%s has to be requests in a period of 1s to 24h, such as 120/5m", what)
			return
		}
		*into = Rate{requests, per}
	}
}
