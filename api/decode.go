package api

import (
	"context"
	v1 "encoding/json"
	"slices"
	"strings"
	"unicode"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json"
)

// decode reads the body into its generated type and returns what the document
// finds wrong with it. Fields of a wrong type stay zero, so that the handler
// can go on and find what else is wrong with the others.
func (r *request) decode(into any) *faults {
	defer r.turns.take(len(r.body))()
	f := faults{more: r.unnamed}
	f.addSchema(r.operation.body, r.operation.body.VisitJSON(r.tree, schemaOptions()...))
	if holdsControls(r.tree) {
		f.addControls("", r.tree)
	}
	if len(f.list) == 0 && json.Unmarshal(r.body, into) == nil {
		return &f
	}
	if err := r.decodeTree(into); err != nil && len(f.list) == 0 {
		f.addf("", "holds a value that cannot be read")
	}
	return &f
}

// decodeTree reads what is left of a body that is wrong somewhere; and what is
// right, but not to encoding/json: by the document 60.0 is the whole number 60.
func (r *request) decodeTree(into any) error {
	plain, err := v1.Marshal(knownFields(r.operation.body, r.tree))
	if err != nil {
		return err
	}
	return v1.Unmarshal(plain, into) // which goes on after a value of a wrong type
}

// knownFields is a value without the fields that its schema does not know. They
// are refused already, but encoding/json would take Name for name.
func knownFields(schema *openapi3.Schema, value any) any {
	switch value := value.(type) {
	case map[string]any:
		if len(schema.Properties) == 0 { // its names are the sender's
			return value
		}
		known := make(map[string]any, len(value))
		for name, property := range schema.Properties {
			if field, given := value[name]; given {
				known[name] = knownFields(property.Value, field)
			}
		}
		return known
	case []any:
		if schema.Items == nil {
			return value
		}
		items := make([]any, 0, len(value))
		for _, item := range value {
			items = append(items, knownFields(schema.Items.Value, item))
		}
		return items
	}
	return value
}

// holdsControls says whether addControls has anything to find.
func holdsControls(value any) bool {
	switch value := value.(type) {
	case string:
		return strings.ContainsFunc(value, isControl)
	case []any:
		return slices.ContainsFunc(value, holdsControls)
	case map[string]any:
		for name, item := range value {
			if strings.ContainsFunc(name, unicode.IsControl) || holdsControls(item) {
				return true
			}
		}
	}
	return false
}

// addControls refuses control characters wherever they stand: PostgreSQL
// cannot store a NUL, and a terminal or a log should not obey a name.
func (f *faults) addControls(pointer string, value any) {
	switch value := value.(type) {
	case string:
		if strings.ContainsFunc(value, isControl) {
			f.addf(pointer, "must not hold control characters")
		}
	case []any:
		for i, item := range value {
			f.addControls(pointer+at(i), item)
		}
	case map[string]any:
		for _, name := range sortedKeys(value) {
			if strings.ContainsFunc(name, unicode.IsControl) {
				f.addf(pointer+at(name), "must not have control characters in its name")
			}
			f.addControls(pointer+at(name), value[name])
		}
	}
}

// isControl spares tabs and line breaks, which text of several lines needs.
func isControl(r rune) bool {
	return unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r'
}

// checkEmpty refuses what is sent to an operation that takes nothing.
func (r *request) checkEmpty(context.Context) error {
	var nothing struct{}
	return r.decode(&nothing).err()
}
