package api

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// maxFaults bounds an answer: a batch of 1,000 watches in which everything is
// wrong stays below it.
const maxFaults = 5000

// invalidError holds the values of a request that are wrong.
type invalidError struct {
	faults []Fault
	more   int // beyond maxFaults
}

func (e *invalidError) Error() string {
	return fmt.Sprintf("%d values are wrong", len(e.faults)+e.more)
}

// faults gathers what is wrong with a request. The zero value is ready. The
// first fault at a place stands for it, and one of the whole body for everything
// in it: what follows from it is not repeated.
type faults struct {
	list []Fault
	more int
	seen map[string]bool
}

// addf notes a fault at a JSON pointer, "?name" or "Name:". The detail goes to
// the client, so it must not hold a secret that was sent.
func (f *faults) addf(pointer, format string, args ...any) {
	if f.seen[pointer] || f.seen[""] {
		return
	}
	if f.seen == nil {
		f.seen = make(map[string]bool)
	}
	f.seen[pointer] = true
	if len(f.list) >= maxFaults {
		f.more++
		return
	}
	f.list = append(f.list, Fault{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
}

// err is nil if nothing is wrong, else an *invalidError.
func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	return &invalidError{faults: f.list, more: f.more}
}

// invalid is the error for a single wrong value.
func invalid(pointer, detail string) error {
	var f faults
	f.addf(pointer, "%s", detail)
	return f.err()
}

// maxStep bounds what an answer repeats of a name from outside, in bytes.
const maxStep = 200

// at is the JSON pointer made of the steps.
func at(steps ...any) string {
	var pointer strings.Builder
	for _, step := range steps {
		pointer.WriteByte('/')
		switch step := step.(type) {
		case int:
			pointer.WriteString(strconv.Itoa(step))
		case string:
			pointer.WriteString(escape(step))
		}
	}
	return pointer.String()
}

// escape is one step of a JSON pointer (RFC 6901). A long one is cut: it is for
// people, who know it by its beginning.
func escape(step string) string {
	return strings.ReplaceAll(strings.ReplaceAll(shorten(step), "~", "~0"), "/", "~1")
}

// shorten cuts a name after the last character that ends within maxStep.
func shorten(name string) string {
	if len(name) <= maxStep {
		return name
	}
	return strings.ToValidUTF8(name[:maxStep], "") + "…"
}

// addSchema notes what checking a body against its schema has found.
func (f *faults) addSchema(body *openapi3.Schema, err error) {
	switch err := err.(type) { //nolint:errorlint // the library's own tree, walked by its shapes
	case nil:
	case openapi3.MultiError:
		for _, each := range err {
			f.addSchema(body, each)
		}
	case *openapi3.SchemaError:
		f.addSchemaError(body, err)
	default:
		f.addf("", "does not match the API's document")
	}
}

func (f *faults) addSchemaError(body *openapi3.Schema, err *openapi3.SchemaError) {
	path, pointer := err.JSONPointer(), ""
	if len(path) > 0 {
		pointer = "/" + strings.Join(each(path, escape), "/")
	}
	switch err.SchemaField {
	case "properties":
		f.addUnknownFields(pointer, err)
	case "uniqueItems":
		f.addDuplicates(pointer, err)
	case "nullable":
		f.addf(pointer, "%s", explainNull(err.Schema, optional(body, path)))
	default:
		f.addf(pointer, "%s", explain(err))
	}
}

// addUnknownFields notes every field that the object's schema does not know.
// The library reports each, but does not say which.
func (f *faults) addUnknownFields(pointer string, err *openapi3.SchemaError) {
	if f.seen[pointer+"/*"] {
		return
	}
	if f.seen == nil {
		f.seen = make(map[string]bool)
	}
	f.seen[pointer+"/*"] = true
	object, _ := err.Value.(map[string]any)
	known := sortedKeys(err.Schema.Properties)
	for _, name := range sortedKeys(object) {
		if _, ok := err.Schema.Properties[name]; !ok {
			f.addf(pointer+at(name), "is not a field of this request%s", oneOf("; known: ", known))
		}
	}
}

// addDuplicates notes each item of a list that came before.
func (f *faults) addDuplicates(pointer string, err *openapi3.SchemaError) {
	items, _ := err.Value.([]any)
	first := make(map[any]int, len(items))
	for i, item := range items {
		text, ok := item.(string)
		if !ok {
			continue // wrong already by its type
		}
		if before, twice := first[text]; twice {
			f.addf(pointer+at(i), "is the same as item %d; name each once", before)
			continue
		}
		first[text] = i
	}
}

// addParameter notes what is wrong with a parameter.
func (f *faults) addParameter(pointer string, schema *openapi3.Schema, err error) {
	switch err := err.(type) { //nolint:errorlint // as in addSchema
	case openapi3.MultiError:
		for _, each := range err {
			f.addParameter(pointer, schema, each)
		}
	case *openapi3.SchemaError:
		f.addf(pointer, "%s", explain(err))
	default: // it could not be read as its type, or is empty
		if schema.Type.Is(openapi3.TypeInteger) {
			f.addf(pointer, "must be a whole number%s", bounds(schema))
			return
		}
		f.addf(pointer, "must not be empty")
	}
}
