package api

import (
	_ "embed"
	"fmt"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"

	"oprelay/storage"
)

//go:embed openapi.yaml
var documentSource []byte

// document is openapi.yaml, read once per Server.
type document struct {
	spec       *openapi3.T
	operations map[string]*operation // by operationId
}

// operation is one method on one path, as the document describes it.
type operation struct {
	scope  storage.Scope // "" where no key is asked for
	route  *routers.Route
	params openapi3.Parameters // of the path and of the operation
	// body is what a request body must look like; nil for a method that takes none.
	body         *openapi3.Schema
	bodyRequired bool
	options      []openapi3.SchemaValidationOption // to check the body with
}

func loadDocument() (*document, error) {
	spec, err := openapi3.NewLoader().LoadFromData(documentSource)
	if err != nil {
		return nil, fmt.Errorf("api: read openapi.yaml: %w", err)
	}
	d := &document{spec: spec, operations: make(map[string]*operation)}
	for path, item := range spec.Paths.Map() {
		for method, described := range item.Operations() {
			d.operations[described.OperationID] = newOperation(spec, path, method, item, described)
		}
	}
	return d, nil
}

func newOperation(spec *openapi3.T, path, method string, item *openapi3.PathItem, described *openapi3.Operation) *operation {
	scope, _ := described.Extensions["x-scope"].(string)
	o := &operation{
		scope:   storage.Scope(scope),
		options: schemaOptions(),
		route:   &routers.Route{Spec: spec, Path: path, PathItem: item, Method: method, Operation: described},
	}
	o.params = append(o.params, item.Parameters...)
	o.params = append(o.params, described.Parameters...)
	switch {
	case described.RequestBody != nil:
		o.body = described.RequestBody.Value.Content.Get(contentTypeJSON).Schema.Value
		o.bodyRequired = described.RequestBody.Value.Required
	case method == "POST":
		// A POST that takes nothing: {} is allowed, since many clients cannot
		// send an empty body, and any field is unknown.
		o.body = openapi3.NewObjectSchema().WithoutAdditionalProperties()
	}
	return o
}

// schemaOptions is how values are checked against the document: all faults
// at once, and times as time.Time reads them.
func schemaOptions() []openapi3.SchemaValidationOption {
	return []openapi3.SchemaValidationOption{
		openapi3.MultiErrors(),
		openapi3.WithStringFormatValidator("date-time", openapi3.NewCallbackValidator(func(value string) error {
			_, err := time.Parse(time.RFC3339, value)
			return err
		})),
	}
}
