package api

import (
	"context"
	"encoding/json"
	"strings"
	"unicode"

	"github.com/getkin/kin-openapi/openapi3"
)

// decode reads the body into its generated type and returns what the document
// finds wrong with it. Fields of a wrong type stay zero, so that the handler
// can go on and find what else is wrong with the others.
func (r *request) decode(into any) *faults {
	var f faults
	tree := f.bound(r.operation.body, r.tree)
	f.addSchema(r.operation.body, r.operation.body.VisitJSON(tree, schemaOptions()...))
	f.addControls("", tree)
	// From the tree and not from the bytes: in it 60.0 is the whole number 60,
	// as the document has it.
	plain, err := json.Marshal(knownFields(r.operation.body, tree))
	if err == nil {
		err = json.Unmarshal(plain, into)
	}
	if err != nil && len(f.list) == 0 {
		f.addf("", "holds a value that cannot be read")
	}
	return &f
}

// maxUnknown is how many fields of one object that its schema does not know
// are named; the others are counted.
const maxUnknown = 100

// bound is a value without what is not worth a look, so that judging a body
// costs no more than the largest one that is right: of a list or a map that is
// too long only as much stays as shows that it is, and nothing of what stands
// where its schema has no place for it.
func (f *faults) bound(schema *openapi3.Schema, value any) any {
	switch value := value.(type) {
	case map[string]any:
		if !schema.Type.Is(openapi3.TypeObject) {
			return map[string]any{}
		}
		return f.boundObject(schema, value)
	case []any:
		if !schema.Type.Is(openapi3.TypeArray) {
			return []any{}
		}
		if most := schema.MaxItems; most != nil && uint64(len(value)) > *most {
			value = value[:*most+1]
		}
		items := make([]any, 0, len(value))
		for _, item := range value {
			items = append(items, f.bound(schema.Items.Value, item))
		}
		return items
	}
	return value
}

func (f *faults) boundObject(schema *openapi3.Schema, object map[string]any) map[string]any {
	names := sortedKeys(object)
	if most := schema.MaxProps; most != nil && uint64(len(names)) > *most {
		names = names[:*most+1]
	}
	others := schema.AdditionalProperties.Schema
	bounded := make(map[string]any, min(len(names), maxUnknown))
	unknown := 0
	for _, name := range names {
		property := schema.Properties[name]
		switch {
		case property != nil:
			bounded[name] = f.bound(property.Value, object[name])
		case others != nil:
			bounded[name] = f.bound(others.Value, object[name])
		case unknown < maxUnknown:
			bounded[name] = nil
			unknown++
		default:
			f.more++
		}
	}
	return bounded
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
