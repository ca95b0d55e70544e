package api_test

import (
	"net/http"
	"testing"
)

// Where an answer says that something was made, GET shows it, and the document says
// of each POST whether its answer does.
func TestEveryLocationIsShown(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	credential, destination := r.credential(r.admin), r.webhook(r.admin)
	watch := watchBody(credential, destination)
	bodies := map[string]string{
		"/v1/credentials":   `{"name":"x","api_token":"x"}`,
		"/v1/destinations":  `{"type":"webhook","name":"x","url":"` + publicURL + `"}`,
		"/v1/watches":       watch,
		"/v1/watches/batch": `{"watches":[` + watch + `]}`,
		"/v1/keys":          `{"name":"x","scopes":["read"]}`,
	}
	for _, o := range protected(t) {
		makes := o.operation.Responses.Value("201")
		if makes == nil {
			continue
		}
		made := r.do(r.admin, o.method, o.path, bodies[o.path])
		if made.status != http.StatusCreated {
			t.Errorf("%s %s: %d %s", o.method, o.path, made.status, made.body)
			continue
		}
		location := made.header.Get("Location")
		if _, described := makes.Value.Headers["Location"]; described != (location != "") {
			t.Errorf("%s %s: Location %q, and the document says %v", o.method, o.path, location, described)
		}
		if location == "" {
			continue
		}
		if shown := r.do(r.admin, http.MethodGet, location, ""); shown.status != http.StatusOK {
			t.Errorf("%s %s: Location %s is answered %d", o.method, o.path, location, shown.status)
		}
	}
}
