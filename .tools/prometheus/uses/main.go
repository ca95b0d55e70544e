// Command uses tells what PromQL expressions ask of the metrics. It reads a JSON
// array of expressions and writes one of answers, in the same order; what to
// think of an answer is the reader's, the tests of cmd/relay. It is in a module
// of its own so that the parser's dependencies are not the relay's.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// answer is what one expression uses.
type answer struct {
	Error     string     `json:"error"` // "" if it can be parsed
	Selectors []selector `json:"selectors"`
	// Grouped says whether only the labels Left are left in the result.
	Grouped bool     `json:"grouped"`
	Left    []string `json:"left"`
}

// selector is a metric, and the labels that it has to have.
type selector struct {
	Metric string `json:"metric"`
	// Labels are matched, grouped by or joined on.
	Labels []string `json:"labels"`
	// Equal are those matched with = and a value.
	Equal map[string]string `json:"equal"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "uses:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var expressions []string
	if err := json.NewDecoder(in).Decode(&expressions); err != nil {
		return fmt.Errorf("read the expressions: %w", err)
	}
	promql := parser.NewParser(parser.Options{})
	answers := make([]answer, len(expressions))
	for i, text := range expressions {
		expr, err := promql.ParseExpr(text)
		if err != nil {
			answers[i].Error = err.Error()
			continue
		}
		answers[i].Selectors = selectors(expr, nil)
		answers[i].Left, answers[i].Grouped = left(expr)
	}
	return json.NewEncoder(out).Encode(answers)
}

// selectors are those below the node. Each has to have the wanted labels, those
// of the aggregations and joins above.
func selectors(node parser.Node, wanted []string) (found []selector) {
	switch n := node.(type) {
	case *parser.VectorSelector:
		return []selector{selected(n, wanted)}
	case *parser.AggregateExpr:
		if !n.Without {
			wanted = slices.Concat(wanted, n.Grouping)
		}
	case *parser.BinaryExpr:
		if n.VectorMatching != nil && n.VectorMatching.On {
			wanted = slices.Concat(wanted, n.VectorMatching.MatchingLabels)
		}
	}
	for _, child := range parser.Children(node) {
		found = append(found, selectors(child, wanted)...)
	}
	return found
}

func selected(n *parser.VectorSelector, wanted []string) selector {
	s := selector{Metric: n.Name, Labels: slices.Clone(wanted), Equal: map[string]string{}}
	for _, m := range n.LabelMatchers {
		if m.Name == labels.MetricName {
			continue
		}
		s.Labels = append(s.Labels, m.Name)
		if m.Type == labels.MatchEqual && m.Value != "" {
			s.Equal[m.Name] = m.Value
		}
	}
	return s
}

// left are the labels of the result where an aggregation decides that.
func left(expr parser.Expr) (names []string, grouped bool) {
	switch e := expr.(type) {
	case *parser.AggregateExpr:
		return e.Grouping, !e.Without
	case *parser.ParenExpr:
		return left(e.Expr)
	case *parser.BinaryExpr:
		if names, grouped := left(e.LHS); grouped {
			return names, true
		}
		return left(e.RHS)
	case *parser.Call: // of one vector at most
		for _, argument := range e.Args {
			if names, grouped := left(argument); grouped {
				return names, true
			}
		}
	}
	return nil, false
}
