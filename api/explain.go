package api

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

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

func enumNames(schema *openapi3.Schema) []string {
	names := make([]string, 0, len(schema.Enum))
	for _, value := range schema.Enum {
		names = append(names, fmt.Sprint(value))
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

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
