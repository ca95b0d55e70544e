package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
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
	if !utf8.Valid(body) {
		return nil, &notJSONError{reason: "The body is not valid UTF-8."}
	}
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, syntaxFault(err)
	}
	if at := loneSurrogate(body); at >= 0 {
		return nil, &notJSONError{reason: fmt.Sprintf("The body is not valid Unicode: at byte %d an escape is half of a surrogate pair.", at+1)}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return parseValue(d, 0)
}

// loneSurrogate is where in JSON text an escape such as \ud800 stands without its
// other half (RFC 8259, section 8.2), or -1. encoding/json would make U+FFFD of it.
func loneSurrogate(text []byte) int {
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			i++
			continue
		}
		unit, ok := escapedUnit(text[i:])
		if !ok { // an escape of one character
			i += len(`\n`)
			continue
		}
		i += escapeLength
		if !utf16.IsSurrogate(unit) {
			continue
		}
		other, _ := escapedUnit(text[i:])
		if utf16.DecodeRune(unit, other) == utf8.RuneError {
			return i - escapeLength
		}
		i += escapeLength
	}
	return -1
}

// escapeLength is that of \uXXXX.
const escapeLength = 6

// escapedUnit is the UTF-16 code unit that text begins with as \uXXXX.
func escapedUnit(text []byte) (rune, bool) {
	if len(text) < escapeLength || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:escapeLength]), 16, 16)
	return rune(unit), err == nil
}

func syntaxFault(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &notJSONError{reason: fmt.Sprintf("At byte %d: %s.", syntax.Offset, syntax)}
	}
	return &notJSONError{reason: "It cannot be read."}
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, &notJSONError{reason: fmt.Sprintf("It is nested more than %d levels deep.", maxDepth)}
	}
	token, err := d.Token()
	if err != nil {
		return nil, syntaxFault(err)
	}
	switch token := token.(type) {
	case json.Number:
		return number(token), nil
	case json.Delim:
		if token == '{' {
			return parseObject(d, depth)
		}
		return parseArray(d, depth)
	default:
		return token, nil
	}
}

func parseObject(d *json.Decoder, depth int) (any, error) {
	object := make(map[string]any)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, syntaxFault(err)
		}
		name, _ := token.(string)
		if _, twice := object[name]; twice {
			return nil, &notJSONError{reason: fmt.Sprintf("The field %s is given twice.", strconv.QuoteToGraphic(cut(name)))}
		}
		if object[name], err = parseValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token() // the closing brace
	return object, err
}

func parseArray(d *json.Decoder, depth int) (any, error) {
	array := []any{}
	for d.More() {
		value, err := parseValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err := d.Token() // the closing bracket
	return array, err
}

// number is n as a float64. One that is too large stands as the largest there
// is, so that the document's limits refuse it like any other.
func number(n json.Number) float64 {
	value, _ := n.Float64()
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
