package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"oprelay/deploy/testenv"
	"oprelay/storage"
)

// described is one operation of the document.
type described struct {
	method, path, scope string
	params              []string // of the path
	body                bool
	operation           *openapi3.Operation
}

// protected lists every operation that asks for a key.
func protected(t *testing.T) []described {
	t.Helper()
	var all []described
	for path, item := range readDocument(t).Paths.Map() {
		for method, operation := range item.Operations() {
			d := described{method: method, path: path, body: operation.RequestBody != nil, operation: operation}
			d.scope, _ = operation.Extensions["x-scope"].(string)
			for _, p := range item.Parameters {
				d.params = append(d.params, p.Value.Name)
			}
			if open := operation.Security != nil && len(*operation.Security) == 0; open == (d.scope != "") {
				t.Errorf("%s %s: has either a scope or no security, not both or none", method, path)
			}
			if d.scope != "" {
				all = append(all, d)
			}
		}
	}
	if len(all) < 25 {
		t.Fatalf("only %d operations ask for a key", len(all))
	}
	return all
}

func TestDocumentDescribesEveryPartOfIt(t *testing.T) {
	t.Parallel()
	document := readDocument(t)
	if document.Info.Contact == nil {
		t.Error("there is no contact")
	}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.RequestBody != nil {
				checkBounds(t, operation.OperationID, operation.RequestBody.Value.Content.Get("application/json").Schema.Value)
			}
			if operation.Summary == "" || operation.Description == "" || operation.OperationID == "" || len(operation.Tags) != 1 {
				t.Errorf("%s %s lacks a summary, a description, an operationId or its one tag", method, path)
			}
			for status, response := range operation.Responses.Map() {
				for kind, media := range response.Value.Content {
					if !strings.HasSuffix(kind, "json") && !media.Schema.Value.Type.Is(openapi3.TypeString) {
						t.Errorf("%s %s: %s answers %s, which a client reads as text, and says it is something else", method, path, status, kind)
					}
				}
			}
		}
	}
	for name, schema := range document.Components.Schemas {
		isRequest := strings.HasPrefix(name, "New") || name == "DestinationPatch" || name == "SecretRotation" || name == "Recovery"
		if isRequest && (schema.Value.AdditionalProperties.Has == nil || *schema.Value.AdditionalProperties.Has) {
			t.Errorf("%s is a request and lets unknown fields through", name)
		}
		if example := schema.Value.Example; example != nil {
			if err := schema.Value.VisitJSON(example); err != nil {
				t.Errorf("the example of %s is none: %v", name, err)
			}
		}
		checkPatterns(t, name, schema.Value)
		checkNulls(t, name, schema.Value)
		checkDefaults(t, name, schema.Value)
	}
}

// Tools that people build clients with warn of nothing.
func TestDocumentPleasesTheLinter(t *testing.T) {
	t.Parallel()
	if faults := testenv.LintOpenAPI(t, "openapi.yaml"); faults != "" {
		t.Error(faults)
	}
}

// checkDefaults: generators of TypeScript clients take a field with a default for
// required, in requests too.
func checkDefaults(t *testing.T, name string, schema *openapi3.Schema) {
	t.Helper()
	if schema.Default != nil {
		t.Errorf("%s has a default: tell it in the description", name)
	}
	for field, property := range schema.Properties {
		checkDefaults(t, name+"."+field, property.Value)
	}
}

// checkPatterns: a pattern alone is no answer to a person.
func checkPatterns(t *testing.T, name string, schema *openapi3.Schema) {
	t.Helper()
	if fault, _ := schema.Extensions["x-fault"].(string); schema.Pattern != "" && fault == "" {
		t.Errorf("%s has a pattern without x-fault", name)
	}
	for field, property := range schema.Properties {
		checkPatterns(t, name+"."+field, property.Value)
	}
}

// checkNulls: strict validators refuse a null that the enum lacks, whatever nullable says, and each value has its name.
func checkNulls(t *testing.T, name string, schema *openapi3.Schema) {
	t.Helper()
	if len(schema.Enum) > 0 && schema.Nullable != slices.Contains(schema.Enum, any(nil)) {
		t.Errorf("%s: nullable is %v, and its enum is %v", name, schema.Nullable, schema.Enum)
	}
	if names, is := schema.Extensions["x-enum-varnames"].([]any); is && len(names) != len(schema.Enum) {
		t.Errorf("%s: %d names for %d values", name, len(names), len(schema.Enum))
	}
	for field, property := range schema.Properties {
		checkNulls(t, name+"."+field, property.Value)
	}
}

// checkBounds: what a body may cost is what the document lets it hold.
func checkBounds(t *testing.T, name string, schema *openapi3.Schema) {
	t.Helper()
	if len(schema.AllOf)+len(schema.AnyOf)+len(schema.OneOf) > 0 || schema.Not != nil {
		t.Errorf("%s is made of several schemas, of which bodies are not bounded", name)
	}
	switch {
	case schema.Type.Is(openapi3.TypeArray):
		if schema.MaxItems == nil || schema.Items == nil {
			t.Errorf("%s is a list without maxItems or without items", name)
			return
		}
		checkBounds(t, name+"[]", schema.Items.Value)
	case schema.Type.Is(openapi3.TypeObject):
		closed := schema.AdditionalProperties.Has != nil && !*schema.AdditionalProperties.Has
		if others := schema.AdditionalProperties.Schema; others != nil && schema.MaxProps != nil {
			checkBounds(t, name+"{}", others.Value)
		} else if !closed {
			t.Errorf("%s is a map without maxProperties, or takes values of any kind", name)
		}
		for field, property := range schema.Properties {
			checkBounds(t, name+"."+field, property.Value)
		}
	case schema.Type == nil:
		t.Errorf("%s has no type", name)
	}
}

func TestEveryOperationAsksForAKeyOfItsScope(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	read, revoked := r.key(r.tenant, storage.ScopeRead), r.revoked()
	for _, o := range protected(t) {
		t.Run(o.method+" "+o.path, func(t *testing.T) {
			path := fill(o, func(string) string { return "no-id" })
			for _, key := range []string{"", "relay_unknown", "Basic", revoked} {
				answer := r.do(key, o.method, path, "")
				if answer.status != http.StatusUnauthorized {
					t.Errorf("key %q: %d, want 401", key, answer.status)
				}
			}
			less := map[string]string{"write": read, "admin": r.write}[o.scope]
			if less == "" {
				return
			}
			if answer := r.do(less, o.method, path, ""); answer.status != http.StatusForbidden {
				t.Errorf("with too little scope: %d, want 403", answer.status)
			}
		})
	}
}

func TestAnIDThatCannotBeIsAbsent(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	for _, o := range protected(t) {
		if len(o.params) == 0 {
			continue
		}
		for _, id := range []string{"no-id", "..%2F..%2Fkeys", "%00", "watch_01JD8P5KZVE6WBDQ8RFG0M3C7X"} {
			answer := r.do(r.admin, o.method, fill(o, func(string) string { return id }), "")
			if answer.status != http.StatusNotFound {
				t.Errorf("%s %s with %s: %d %s, want 404", o.method, o.path, id, answer.status, answer.body)
			}
		}
	}
}

// oneOfEach makes one of everything that has an id, by the parameter's name, with
// an admin's key.
func (r *relay) oneOfEach(key string) map[string]string {
	r.t.Helper()
	ids := map[string]string{"credential_id": r.credential(key), "destination_id": r.webhook(key)}
	ids["watch_id"] = r.watch(key, ids["credential_id"], ids["destination_id"])
	r.expire()
	ids["key_id"] = r.made(key, "/v1/keys", `{"name":"spare","scopes":["read"]}`)
	ids["event_id"] = r.firstOf(key, "/v1/events")
	ids["delivery_id"] = r.firstOf(key, "/v1/deliveries")
	return ids
}

// fill puts an id into each parameter of a path.
func fill(o described, id func(name string) string) string {
	path := o.path
	for _, name := range o.params {
		path = strings.ReplaceAll(path, "{"+name+"}", id(name))
	}
	return path
}
