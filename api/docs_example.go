package api

import (
	"bytes"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// examplesOf are those of a body: its own, or its schema's.
func examplesOf(media *openapi3.MediaType) []any {
	if media.Example != nil {
		return []any{media.Example}
	}
	var examples []any
	for _, name := range sortedKeys(media.Examples) {
		examples = append(examples, media.Examples[name].Value.Value)
	}
	if example := exampleOf(media.Schema.Value); examples == nil && example != nil {
		examples = []any{example}
	}
	return examples
}

// exampleOf is the schema's example, or one made of those of its parts; nil if a part has none.
func exampleOf(schema *openapi3.Schema) any {
	switch {
	case schema.Example != nil:
		return schema.Example
	case schema.Type.Is(openapi3.TypeArray):
		if item := exampleOf(schema.Items.Value); item != nil {
			return []any{item}
		}
	case schema.Type.Is(openapi3.TypeObject) && len(schema.Properties) > 0:
		object := make(map[string]any)
		for name, property := range schema.Properties {
			object[name] = exampleOf(property.Value)
			if object[name] == nil && !property.Value.Nullable {
				return nil
			}
		}
		return object
	case len(schema.Enum) > 0:
		return schema.Enum[0]
	}
	return nil
}

// exampleText is an example in JSON, its fields in the order in which the schema requires them. What is short is
// one line.
func exampleText(schema *openapi3.Schema, value any) string {
	return exampleLines(schema, value, "\n")
}

func exampleLines(schema *openapi3.Schema, value any, line string) string {
	const short = 64
	inner := line + "  "
	var parts []string
	var brackets string
	nested := false
	switch value := value.(type) {
	case map[string]any:
		brackets = "{}"
		schema = oneThatFits(schema, value)
		for _, name := range inOrder(schema, value) {
			field := schema.AdditionalProperties.Schema
			if property := schema.Properties[name]; property != nil {
				field = property
			}
			_, object := value[name].(map[string]any)
			nested = nested || object
			parts = append(parts, scalar(name)+": "+exampleLines(field.Value, value[name], inner))
		}
	case []any:
		brackets = "[]"
		for _, item := range value {
			parts = append(parts, exampleLines(schema.Items.Value, item, inner))
		}
	default:
		return scalar(value)
	}
	if text := strings.Join(parts, ", "); len(text) <= short && !nested && !strings.Contains(text, "\n") {
		return brackets[:1] + text + brackets[1:]
	}
	return brackets[:1] + inner + strings.Join(parts, ","+inner) + line + brackets[1:]
}

// oneThatFits is the schema, or the one of its oneOf that the value is of.
func oneThatFits(schema *openapi3.Schema, value map[string]any) *openapi3.Schema {
	for _, one := range schema.OneOf {
		if one.Value.VisitJSON(value) == nil {
			return one.Value
		}
	}
	return schema
}

// inOrder are names of fields in the order of the schema's required ones, then by name.
func inOrder[V any](schema *openapi3.Schema, fields map[string]V) []string {
	names := sortedKeys(fields)
	slices.SortStableFunc(names, func(a, b string) int { return rank(schema, a) - rank(schema, b) })
	return names
}

func rank(schema *openapi3.Schema, field string) int {
	if i := slices.Index(schema.Required, field); i >= 0 {
		return i
	}
	return len(schema.Required)
}

func scalar(value any) string {
	text, err := marshal(value)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}
