package api

import (
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

type docsSchema struct {
	Name, Description string
	Fields            []docsField
}

func docsSchemas(spec *openapi3.T) []docsSchema {
	var shown []docsSchema
	for _, name := range sortedKeys(spec.Components.Schemas) {
		schema := spec.Components.Schemas[name].Value
		entry := docsSchema{Name: name, Description: schema.Description}
		required := make(map[string]bool)
		for _, field := range schema.Required {
			required[field] = true
		}
		for _, field := range inOrder(schema, schema.Properties) {
			ref := schema.Properties[field]
			entry.Fields = append(entry.Fields, docsField{
				Name: field, Type: schemaType(ref), Description: ref.Value.Description, Required: required[field],
			})
		}
		if len(entry.Fields) == 0 {
			entry.Description = strings.TrimSpace(schemaType(&openapi3.SchemaRef{Value: schema}) + ". " + entry.Description)
		}
		shown = append(shown, entry)
	}
	return shown
}

// schemaType is a type in a few words: a schema's name, or its type and limits.
func schemaType(ref *openapi3.SchemaRef) string {
	if ref.Ref != "" {
		return ref.Ref[strings.LastIndex(ref.Ref, "/")+1:]
	}
	schema := ref.Value
	var name string
	switch {
	case len(schema.OneOf) > 0:
		var names []string
		for _, one := range schema.OneOf {
			names = append(names, schemaType(one))
		}
		name = strings.Join(names, " | ")
	case schema.Type.Is(openapi3.TypeArray):
		name = "list of " + schemaType(schema.Items)
	case len(schema.Enum) > 0:
		name = strings.Join(enumNames(schema), " | ")
	case schema.Type.Is(openapi3.TypeInteger):
		name = "whole number" + bounds(schema)
	case schema.Format == "date-time":
		name = "time"
	default:
		name = strings.Join(schema.Type.Slice(), " | ")
	}
	if schema.Nullable {
		name += " | null"
	}
	return name
}
