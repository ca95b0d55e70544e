package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

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

// parseJSON reads a body into maps, slices, strings, float64, bool and nil.
// It is stricter than encoding/json: a field that is given twice, bytes that
// are not UTF-8, escapes that are no character, and absurd nesting are refused,
// since every reader would make something else of them.
func parseJSON(body []byte) (any, error) {
	if len(body) == 0 {
		return nil, &notJSONError{reason: "The body is empty."}
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(body)) // of a Buffer it reads the bytes where they are
	value, err := parseValue(d)
	if err != nil {
		return nil, syntaxFault(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &notJSONError{reason: fmt.Sprintf("At byte %d: the value has ended before.", d.InputOffset()+1)}
	}
	return value, nil
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

func parseValue(d *jsontext.Decoder) (any, error) {
	if d.StackDepth() > maxDepth {
		return nil, &notJSONError{reason: fmt.Sprintf("It is nested more than %d levels deep.", maxDepth)}
	}
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case jsontext.KindBeginObject:
		return parseObject(d)
	case jsontext.KindBeginArray:
		return parseArray(d)
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

func parseObject(d *jsontext.Decoder) (any, error) {
	object := make(map[string]any)
	for d.PeekKind() != jsontext.KindEndObject {
		token, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		name := token.String()
		if object[name], err = parseValue(d); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken() // the closing brace
	return object, err
}

func parseArray(d *jsontext.Decoder) (any, error) {
	array := []any{}
	for d.PeekKind() != jsontext.KindEndArray {
		value, err := parseValue(d)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err := d.ReadToken() // the closing bracket
	return array, err
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
