package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds how deep a body may be nested. No request needs more than
// four levels.
const maxDepth = 32

// notJSONError says why a body is not the JSON that the API reads.
type notJSONError struct {
	reason string
}

func (e *notJSONError) Error() string { return "the body is not JSON: " + e.reason }

// maxUnknown is how many fields of one object that its schema does not know
// are named; the others are counted.
const maxUnknown = 100

// parseJSON reads a body into maps, slices, strings, float64, bool and nil.
// It is stricter than encoding/json: a field that is given twice, bytes that
// are not UTF-8, escapes that are no character, and absurd nesting are refused,
// since every reader would make something else of them.
//
// Of what the schema does not allow only as much is kept as shows that it is wrong:
// of a list or a map that is too long one more than allowed, of the fields that an
// object's schema does not know the first maxUnknown, without what is in them, and
// nothing of what stands in a list or a map where none belongs. So a body costs no
// more than the largest one that is right. unnamed counts the unknown fields beyond.
func parseJSON(schema *openapi3.Schema, body []byte) (tree any, unnamed int, err error) {
	if len(body) == 0 {
		return nil, 0, &notJSONError{reason: "The body is empty."}
	}
	p := parser{Decoder: jsontext.NewDecoder(bytes.NewBuffer(body))} // of a Buffer it reads the bytes where they are
	tree, err = p.value(schema)
	if err != nil {
		return nil, 0, syntaxFault(err)
	}
	if _, err := p.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, 0, &notJSONError{reason: fmt.Sprintf("At byte %d: the value has ended before.", p.InputOffset()+1)}
	}
	return tree, p.unnamed, nil
}

func syntaxFault(err error) error {
	if _, known := errors.AsType[*notJSONError](err); known {
		return err
	}
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case !ok || errors.Is(err, io.ErrUnexpectedEOF):
		return &notJSONError{reason: "It ends too early."}
	case errors.Is(err, jsontext.ErrDuplicateName):
		return &notJSONError{reason: fmt.Sprintf("The field %s is given twice.",
			strconv.QuoteToGraphic(cut(syntax.JSONPointer.LastToken())))}
	}
	return &notJSONError{reason: fmt.Sprintf("At byte %d: %s.", syntax.ByteOffset+1, syntax.Err)}
}

// parser is what parseJSON reads with.
type parser struct {
	*jsontext.Decoder

	unnamed int
}

// value reads a value that should be as the schema says.
func (p *parser) value(schema *openapi3.Schema) (any, error) {
	token, err := p.next()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case jsontext.KindBeginObject:
		return p.object(schema)
	case jsontext.KindBeginArray:
		return p.array(schema)
	case jsontext.KindString:
		return token.String(), nil
	case jsontext.KindNumber:
		return number(token), nil
	case jsontext.KindNull:
		return nil, nil //nolint:nilnil // that is what null is
	default:
		return token.Bool(), nil
	}
}

func (p *parser) next() (jsontext.Token, error) {
	token, err := p.ReadToken()
	if err == nil && p.StackDepth() > maxDepth {
		err = &notJSONError{reason: fmt.Sprintf("It is nested more than %d levels deep.", maxDepth)}
	}
	return token, err
}

func (p *parser) object(schema *openapi3.Schema) (any, error) {
	object := make(map[string]any)
	if !schema.Type.Includes(openapi3.TypeObject) {
		return object, p.skipRest()
	}
	unknown, others := 0, schema.AdditionalProperties.Schema
	for p.PeekKind() != jsontext.KindEndObject {
		if most := schema.MaxProps; most != nil && uint64(len(object)) > *most {
			return object, p.skipRest()
		}
		token, err := p.next()
		if err != nil {
			return nil, err
		}
		name := token.String()
		place := others
		if property := schema.Properties[name]; property != nil {
			place = property
		}
		switch {
		case place != nil:
			object[name], err = p.value(place.Value)
		case unknown < maxUnknown:
			unknown++
			object[name], err = nil, p.skip()
		default:
			p.unnamed++
			err = p.skip()
		}
		if err != nil {
			return nil, err
		}
	}
	_, err := p.next() // the closing brace
	return object, err
}

func (p *parser) array(schema *openapi3.Schema) (any, error) {
	array := []any{}
	if !schema.Type.Includes(openapi3.TypeArray) {
		return array, p.skipRest()
	}
	for p.PeekKind() != jsontext.KindEndArray {
		if most := schema.MaxItems; most != nil && uint64(len(array)) > *most {
			return array, p.skipRest()
		}
		value, err := p.value(schema.Items.Value)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err := p.next() // the closing bracket
	return array, err
}

// skip reads a value and keeps nothing of it.
func (p *parser) skip() error {
	token, err := p.next()
	if err == nil && (token.Kind() == jsontext.KindBeginObject || token.Kind() == jsontext.KindBeginArray) {
		err = p.skipRest()
	}
	return err
}

// skipRest reads on until the list or map that has begun is at its end.
func (p *parser) skipRest() error {
	for within := p.StackDepth(); p.StackDepth() >= within; {
		if _, err := p.next(); err != nil {
			return err
		}
	}
	return nil
}

// number is a token as a float64. One that is too large stands as the largest there
// is, so that the document's limits refuse it like any other.
func number(token jsontext.Token) float64 {
	value, _ := token.Float()
	return max(min(value, math.MaxFloat64), -math.MaxFloat64)
}

// cut shortens text from outside for a message.
func cut(text string) string {
	const most = 60
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most]) + "…"
}
