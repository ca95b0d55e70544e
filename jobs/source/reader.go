package source

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// A reader walks through an answer once, along a tree of all pointers of a source, so that
// what it costs does not grow with the number of rules.
type reader struct {
	root  *node
	nodes int
	tests int // conditions on values
	slots int // values that are kept
	// status, errors, completed, message and id are the slots of the source's pointers.
	status, errors, completed, message, id []int
	scans                                  *sync.Pool
}

// node is a place in an answer that a pointer leads to or through.
type node struct {
	number  int
	members map[string]*node // by name, or by an array's index
	element *node            // each of an array; then members is nil
	tests   []test
	slots   []int
}

// test is a condition on the value at a node.
type test struct {
	number int
	any    bool
	values []string
}

// scan is what one answer holds.
type scan struct {
	json    bool // the whole body is JSON
	object  bool
	decoder jsontext.Decoder
	body    bytes.Buffer
	objects int      // that were entered
	seen    []int    // by node: the object in which its name was last seen
	held    []bool   // by test
	kept    [][]byte // by slot: JSON; nil if it is absent or null
	text    []byte   // of the string that is compared
}

// mostTests bounds the conditions of a source.
const mostTests = 500

// readerFault says why the pointers of a source cannot be read in one walk.
func readerFault(s *Source) string {
	s.compile()
	if s.reader.tests > mostTests {
		return "a source can have at most 500 conditions on values"
	}
	var mixed func(n *node) bool
	mixed = func(n *node) bool {
		if n == nil {
			return false
		}
		for _, sub := range n.members {
			if n.element != nil || mixed(sub) {
				return true
			}
		}
		return mixed(n.element)
	}
	if mixed(s.reader.root) {
		return "pointers have * and an index or a name at the same place; write * in all of them"
	}
	return ""
}

// compile makes the reader, and numbers the conditions.
func (s *Source) compile() {
	s.pieces = pieces(s.Path)
	r := reader{root: &node{}, nodes: 1}
	keep := func(pointers []Pointer) (slots []int) {
		for _, p := range pointers {
			n := r.at(p)
			n.slots = append(n.slots, r.slots)
			slots = append(slots, r.slots)
			r.slots++
		}
		return slots
	}
	r.status, r.errors, r.completed = keep(s.Status), keep(s.Error), keep(s.CompletedAt)
	r.message = keep(s.Upstream.Message)
	if s.ID != "" {
		r.id = keep([]Pointer{s.ID})
	}
	rules := make([]Rule, len(s.Rules)) // the upstream's are numbered anew for each source
	for i, rule := range s.Rules {
		rules[i] = rule
		rules[i].When = make([]Condition, len(rule.When))
		for j, c := range rule.When {
			if c.Pointer != "" {
				n := r.at(c.Pointer)
				c.test = r.tests
				n.tests = append(n.tests, test{c.test, c.Any, c.Values})
				r.tests++
			}
			rules[i].When[j] = c
		}
	}
	s.Rules = rules
	nodes, tests, slots := r.nodes, r.tests, r.slots
	r.scans = &sync.Pool{New: func() any {
		return &scan{seen: make([]int, nodes), held: make([]bool, tests), kept: make([][]byte, slots)}
	}}
	s.reader = r
}

// at is the node of a pointer, made where there is none.
func (r *reader) at(p Pointer) *node {
	n := r.root
	for _, token := range p.Tokens() {
		if token == "*" {
			if n.element == nil {
				n.element = r.node()
			}
			n = n.element
			continue
		}
		if n.members == nil {
			n.members = map[string]*node{}
		}
		if n.members[token] == nil {
			n.members[token] = r.node()
		}
		n = n.members[token]
	}
	return n
}

func (r *reader) node() *node {
	n := &node{number: r.nodes}
	r.nodes++
	return n
}

// read scans a body. The scan holds parts of it until release.
func (r *reader) read(body []byte) *scan {
	s, _ := r.scans.Get().(*scan)
	clear(s.seen)
	clear(s.held)
	clear(s.kept)
	s.objects = 0
	s.body = *bytes.NewBuffer(body)
	s.decoder.Reset(&s.body, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	s.object = s.decoder.PeekKind() == jsontext.KindBeginObject
	s.json = s.walk(r.root, body) == nil
	if s.json {
		_, err := s.decoder.ReadToken()
		s.json = errors.Is(err, io.EOF)
	}
	if !s.json {
		clear(s.held)
		clear(s.kept)
	}
	return s
}

func (r *reader) release(s *scan) {
	clear(s.kept)
	s.body = bytes.Buffer{}
	r.scans.Put(s)
}

// walk reads the next value, which stands at n.
func (s *scan) walk(n *node, body []byte) error {
	kind := s.decoder.PeekKind()
	if n.members == nil && n.element == nil || kind != jsontext.KindBeginObject && kind != jsontext.KindBeginArray {
		value, err := s.decoder.ReadValue()
		if end := s.decoder.InputOffset(); err == nil {
			s.note(n, body[end-int64(len(value)):end]) // the decoder's own copy does not last
		}
		return err
	}
	if _, err := s.decoder.ReadToken(); err != nil {
		return err
	}
	start := s.decoder.InputOffset() - 1
	s.objects++
	object := s.objects
	for i := 0; ; i++ {
		var sub *node
		switch next := s.decoder.PeekKind(); {
		case next == jsontext.KindEndObject, next == jsontext.KindEndArray:
			if _, err := s.decoder.ReadToken(); err != nil {
				return err
			}
			s.note(n, body[start:s.decoder.InputOffset()])
			return nil
		case kind == jsontext.KindBeginObject:
			name, err := s.decoder.ReadValue()
			if err != nil {
				return err
			}
			if s.text, err = jsontext.AppendUnquote(s.text[:0], name); err == nil || len(s.text) > 0 {
				sub = n.members[string(s.text)]
			}
			if sub != nil && s.seen[sub.number] == object {
				s.forget(sub) // of members with the same name the last counts
			}
			if sub != nil {
				s.seen[sub.number] = object
			}
		case n.element != nil:
			sub = n.element
		default:
			sub = n.members[strconv.Itoa(i)]
		}
		if err := s.next(sub, body); err != nil {
			return err
		}
	}
}

func (s *scan) next(n *node, body []byte) error {
	if n == nil {
		return s.decoder.SkipValue()
	}
	return s.walk(n, body)
}

// note keeps a value, and notes which conditions it satisfies. A null counts as absent.
func (s *scan) note(n *node, value jsontext.Value) {
	if value.Kind() == jsontext.KindNull {
		return
	}
	for _, slot := range n.slots {
		if s.kept[slot] == nil { // of an array's elements the first counts
			s.kept[slot] = value
		}
	}
	if len(n.tests) == 0 {
		return
	}
	text := s.textOf(value)
	for _, t := range n.tests {
		s.held[t.number] = s.held[t.number] || t.any || t.accepts(text)
	}
}

// textOf is a value as text: what a string says, and anything else as it is written. It holds
// until the next call.
func (s *scan) textOf(value jsontext.Value) []byte {
	if value.Kind() == jsontext.KindString {
		s.text, _ = jsontext.AppendUnquote(s.text[:0], value)
	} else {
		s.text = append(s.text[:0], value...)
	}
	return s.text
}

func (t test) accepts(text []byte) bool {
	return slices.ContainsFunc(t.values, func(value string) bool { return value == string(text) }) // without a copy of the text
}

// forget takes back what was noted of a place and of all within it.
func (s *scan) forget(n *node) {
	for _, slot := range n.slots {
		s.kept[slot] = nil
	}
	for _, t := range n.tests {
		s.held[t.number] = false
	}
	for _, sub := range n.members {
		s.forget(sub)
	}
	if n.element != nil {
		s.forget(n.element)
	}
}

// holds says whether the first of the slots that holds a value holds this text.
func (s *scan) holds(slots []int, text string) bool {
	for _, slot := range slots {
		if value := jsontext.Value(s.kept[slot]); value != nil {
			return string(s.textOf(value)) == text
		}
	}
	return false
}

// first is the text of the first of the slots that holds a value.
func (s *scan) first(slots []int) (text string, given bool) {
	for _, slot := range slots {
		if value := jsontext.Value(s.kept[slot]); value != nil {
			return string(s.textOf(value)), true
		}
	}
	return "", false
}

// all joins the texts of all the slots that hold a value.
func (s *scan) all(slots []int) string {
	var texts []string
	for _, slot := range slots {
		if text, _ := s.first([]int{slot}); text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, " ")
}
