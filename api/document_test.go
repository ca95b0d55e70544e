package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"oprelay/storage"
)

// described is one operation of the document.
type described struct {
	method, path, scope string
	params              []string // of the path
	body                bool
}

// protected lists every operation that asks for a key.
func protected(t *testing.T) []described {
	t.Helper()
	var all []described
	for path, item := range readDocument(t).Paths.Map() {
		for method, operation := range item.Operations() {
			d := described{method: method, path: path, body: operation.RequestBody != nil}
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
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.Summary == "" || operation.OperationID == "" || len(operation.Tags) != 1 {
				t.Errorf("%s %s lacks a summary, an operationId or its one tag", method, path)
			}
		}
	}
	for name, schema := range document.Components.Schemas {
		isRequest := strings.HasPrefix(name, "New") || name == "DestinationPatch" || name == "SecretRotation" || name == "Recovery"
		if isRequest && (schema.Value.AdditionalProperties.Has == nil || *schema.Value.AdditionalProperties.Has) {
			t.Errorf("%s is a request and lets unknown fields through", name)
		}
		checkPatterns(t, name, schema.Value)
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

func TestEveryOperationAsksForAKeyOfItsScope(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	read := r.key(r.tenant, storage.ScopeRead)
	for _, o := range protected(t) {
		t.Run(o.method+" "+o.path, func(t *testing.T) {
			path := fill(o, func(string) string { return "no-id" })
			for _, key := range []string{"", "relay_unknown", "Basic"} {
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

func TestAnotherTenantsIDsDoNotExist(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, other := r.otherTenant()
	mine := r.oneOfEach()
	bodies := map[string]string{
		"/v1/destinations/{destination_id}":         `{"name":"mine now"}`,
		"/v1/destinations/{destination_id}/recover": `{"since":"2020-01-01T00:00:00Z"}`,
	}
	for _, o := range protected(t) {
		if len(o.params) == 0 {
			continue
		}
		t.Run(o.method+" "+o.path, func(t *testing.T) {
			var body string
			if o.body {
				body = bodies[o.path]
			}
			for what, id := range map[string]func(string) string{
				"another tenant's": func(name string) string { return mine[name] },
				"unknown":          func(name string) string { return strings.TrimSuffix(name, "_id") + "_01jd8p5kzve6wbdq8rfg0m3c7x" },
				"impossible":       func(string) string { return "..%2F..%2Fkeys" },
			} {
				answer := r.do(other, o.method, fill(o, id), body)
				if answer.status != http.StatusNotFound {
					t.Errorf("%s id: %d %s, want 404", what, answer.status, answer.body)
				}
			}
		})
	}
	if answer := r.do(r.admin, http.MethodGet, "/v1/watches/"+mine["watch_id"], ""); answer.status != http.StatusOK {
		t.Errorf("the owner's own watch: %d", answer.status)
	}
}

// oneOfEach makes one of everything that has an id, by the parameter's name.
func (r *relay) oneOfEach() map[string]string {
	r.t.Helper()
	ids := map[string]string{"credential_id": r.credential(r.write), "destination_id": r.webhook(r.write)}
	ids["watch_id"] = r.watch(r.write, ids["credential_id"], ids["destination_id"])
	r.expire()
	ids["key_id"] = r.made(r.admin, "/v1/keys", `{"name":"spare","scopes":["read"]}`)
	ids["event_id"] = r.first("/v1/events")
	ids["delivery_id"] = r.first("/v1/deliveries")
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
