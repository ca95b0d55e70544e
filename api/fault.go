package api

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// maxFaults bounds an answer: a batch of 1,000 watches in which each field is wrong stays below it.
const maxFaults = 5000

// invalidError holds the values of a request that are wrong, the first maxFaults.
type invalidError struct {
	faults []Fault
	more   bool // there are others
}

func (e *invalidError) Error() string {
	return fmt.Sprintf("%d values are wrong", len(e.faults))
}

// faults gathers what is wrong with a request. The zero value is ready. The
// first fault at a place stands for it, and one of the whole body for everything
// in it: what follows from it is not repeated.
type faults struct {
	list []Fault
	more bool // the list is full, and there are others
	seen map[string]bool
}

// addf notes a fault at a JSON pointer, "?name" or "Name:". The detail goes to
// the client, so it must not hold a secret that was sent.
func (f *faults) addf(pointer, format string, args ...any) {
	if f.seen[pointer] || f.seen[""] {
		return
	}
	if len(f.list) == maxFaults {
		f.more = true
		return
	}
	if f.seen == nil {
		f.seen = make(map[string]bool)
	}
	f.seen[pointer] = true
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

// maxName bounds what an answer repeats of a name from outside, in bytes.
const maxName = 200

// at is the JSON pointer made of the steps (RFC 6901). Long steps are cut: a pointer is for people, who know a
// name by its beginning.
func at(steps ...string) string {
	var pointer strings.Builder
	for _, step := range steps {
		pointer.WriteString("/" + strings.ReplaceAll(strings.ReplaceAll(shorten(step), "~", "~0"), "/", "~1"))
	}
	return pointer.String()
}

// shorten cuts a name after the last character that ends within maxName.
func shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	return strings.ToValidUTF8(name[:maxName], "") + "…"
}

// refuse notes a fault if something is so.
func (f *faults) refuse(so bool, pointer, detail string) {
	if so {
		f.addf(pointer, "%s", detail)
	}
}

// addSchema notes what checking a body against its schema has found.
func (f *faults) addSchema(body *openapi3.Schema, err error) {
	switch err := err.(type) { //nolint:errorlint // the library's own tree, walked by its shapes
	case nil:
	case openapi3.MultiError:
		for _, each := range err {
			if f.addSchema(body, each); f.more {
				return
			}
		}
	case *openapi3.SchemaError:
		path := err.JSONPointer()
		switch err.SchemaField {
		case "uniqueItems":
			f.addDuplicates(at(path...), err)
		case "nullable":
			f.addf(at(path...), "%s", explainNull(err.Schema, optional(body, path)))
		default:
			f.addf(at(path...), "%s", explain(err))
		}
	default:
		f.addf("", "does not match the API's document")
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
			f.addf(pointer+at(strconv.Itoa(i)), "is the same as item %d; name each once", before)
			continue
		}
		first[text] = i
	}
}

// addParameter notes what is wrong with a parameter.
func (f *faults) addParameter(pointer string, schema *openapi3.Schema, err error) {
	switch err := err.(type) { //nolint:errorlint // as in addSchema
	case nil:
	case openapi3.MultiError:
		for _, each := range err {
			f.addParameter(pointer, schema, each)
		}
	case *openapi3.SchemaError:
		f.addf(pointer, "%s", explain(err))
	default: // it could not be read as its type, or is empty
		switch {
		case schema.Type.Is(openapi3.TypeInteger):
			f.addf(pointer, "must be a whole number%s", bounds(schema))
			return
		case schema.Type.Is(openapi3.TypeBoolean):
			f.addf(pointer, "must be true or false")
			return
		}
		f.addf(pointer, "must not be empty")
	}
}

// explain says for people what the document refuses about a value: what is
// allowed, and never the value itself, which may be a secret.
func explain(err *openapi3.SchemaError) string {
	schema := err.Schema
	switch err.SchemaField {
	case "required":
		return "is required"
	case "type":
		return "must be " + typeName(schema)
	case "enum":
		return "must be" + oneOf(" one of: ", enumNames(schema))
	case "minLength", "maxLength":
		return "must have " + span("character", int64(schema.MinLength), limit(schema.MaxLength))
	case "minItems", "maxItems":
		return "must have " + span("item", int64(schema.MinItems), limit(schema.MaxItems))
	case "minProperties", "maxProperties":
		return "must have " + span("key", int64(schema.MinProps), limit(schema.MaxProps))
	case "minimum", "maximum":
		return "must be a number" + bounds(schema)
	}
	if fault, ok := schema.Extensions["x-fault"].(string); ok {
		return fault
	}
	return "is not allowed: " + err.Reason
}

// explainNull says what is expected where null stands.
func explainNull(schema *openapi3.Schema, optional bool) string {
	if optional {
		return "must not be null; leave it out instead"
	}
	return "must be " + typeName(schema)
}

// optional says whether what is at the path of a body may be left out.
func optional(body *openapi3.Schema, path []string) bool {
	may := false
	for _, step := range path {
		property := body.Properties[step]
		switch {
		case body.Type.Is(openapi3.TypeArray):
			body, may = body.Items.Value, false
		case property != nil:
			body, may = property.Value, !slices.Contains(body.Required, step)
		default: // a key of the sender's choice, below which there is nothing
			return true
		}
	}
	return may
}

func typeName(schema *openapi3.Schema) string {
	switch {
	case schema.Type.Is(openapi3.TypeString):
		return "a string"
	case schema.Type.Is(openapi3.TypeInteger):
		return "a whole number" + bounds(schema)
	case schema.Type.Is(openapi3.TypeBoolean):
		return "true or false"
	case schema.Type.Is(openapi3.TypeArray):
		return "a list"
	default:
		return "an object"
	}
}

func bounds(schema *openapi3.Schema) string {
	switch {
	case schema.Min != nil && schema.Max != nil:
		return fmt.Sprintf(" from %.0f to %.0f", *schema.Min, *schema.Max)
	case schema.Min != nil:
		return fmt.Sprintf(", at least %.0f", *schema.Min)
	case schema.Max != nil:
		return fmt.Sprintf(", at most %.0f", *schema.Max)
	}
	return ""
}

func limit(most *uint64) int64 {
	if most == nil {
		return -1
	}
	return int64(*most)
}

// span says how many of something are allowed; most below 0 is without end.
func span(noun string, least, most int64) string {
	plural := noun + "s"
	switch {
	case most < 0 && least == 1:
		return "at least 1 " + noun
	case most < 0:
		return "at least " + strconv.FormatInt(least, 10) + " " + plural
	case least == 0:
		return "at most " + strconv.FormatInt(most, 10) + " " + plural
	}
	return fmt.Sprintf("%d to %d %s", least, most, plural)
}

// enumNames leaves out null, which callers add for every nullable schema.
func enumNames(schema *openapi3.Schema) []string {
	names := make([]string, 0, len(schema.Enum))
	for _, value := range schema.Enum {
		if value != nil {
			names = append(names, fmt.Sprint(value))
		}
	}
	return names
}

// oneOf lists names after a lead-in, or is empty if there are none.
func oneOf(lead string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return lead + strings.Join(names, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := slices.AppendSeq(make([]string, 0, len(m)), maps.Keys(m))
	slices.Sort(keys)
	return keys
}
