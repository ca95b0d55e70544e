package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"oprelay/api"
	"oprelay/storage"
)

// A request from inside needs no header; its tenant, scope and limits are those of its key.
func TestRequestsFromInside(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := newRelay(t, func(c *api.Config) { c.Metrics, c.Gatherer = registry, registry })
	credentialID := r.credential(r.write)
	key := storage.Key{ID: "key_inside", TenantID: r.tenant.ID, TenantName: r.tenant.Name, Scopes: []storage.Scope{storage.ScopeRead}}
	other, _ := r.otherTenant()
	foreign := key
	foreign.TenantID = other.ID
	for _, c := range []struct {
		key          storage.Key
		method, path string
		want         int
	}{
		{key, http.MethodGet, "/v1/credentials/" + credentialID, http.StatusOK},
		{key, http.MethodDelete, "/v1/credentials/" + credentialID, http.StatusForbidden},
		{foreign, http.MethodGet, "/v1/credentials/" + credentialID, http.StatusNotFound},
		{key, http.MethodGet, "/v1/credentials?limit=0", http.StatusUnprocessableEntity},
	} {
		before := len(r.log.String())
		request := httptest.NewRequestWithContext(api.WithKey(t.Context(), c.key), c.method, c.path, http.NoBody)
		got := httptest.NewRecorder()
		r.server.ServeHTTP(got, request)
		if got.Code != c.want {
			t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, got.Code, c.want, got.Body)
		}
		wantLevel := `"level":"DEBUG"`
		if c.method != http.MethodGet {
			wantLevel = `"level":"INFO"`
		}
		if log := r.log.String()[before:]; !strings.Contains(log, wantLevel) || !strings.Contains(log, `"console":true`) || !strings.Contains(log, "key_inside") {
			t.Errorf("%s %s is logged as %s", c.method, c.path, log)
		}
	}
	if metrics := r.do("", http.MethodGet, "/metrics", "").body; strings.Contains(string(metrics), `method="DELETE"`) {
		t.Errorf("requests from inside are counted:\n%s", metrics)
	}
}

// What is mounted has the paths that are not the API's, and no others.
func TestWhatIsMounted(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := newRelay(t, func(c *api.Config) { c.Metrics, c.Gatherer = registry, registry })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pages/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") == "broken" {
			panic("a page broke")
		}
		w.WriteHeader(http.StatusTeapot)
	})
	r.server.Mount(mux)
	for _, c := range []struct {
		method, path string
		want         int
		isProblem    bool
	}{
		{http.MethodGet, "/pages/one", http.StatusTeapot, false},
		{http.MethodGet, "/", http.StatusNotFound, false},
		{http.MethodGet, "/v1", http.StatusNotFound, false},
		{http.MethodGet, "/v1/nothing", http.StatusNotFound, true},
		{http.MethodGet, "/v1/watches", http.StatusUnauthorized, true},
		{http.MethodPut, "/v1/watches", http.StatusMethodNotAllowed, true},
		{http.MethodPost, "/healthz", http.StatusMethodNotAllowed, true},
		{http.MethodGet, "/healthz", http.StatusOK, false},
		{http.MethodGet, "/pages/broken", http.StatusInternalServerError, true},
	} {
		got := httptest.NewRecorder()
		r.server.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), c.method, c.path, http.NoBody))
		if isProblem := got.Header().Get("Content-Type") == "application/problem+json"; got.Code != c.want || isProblem != c.isProblem {
			t.Errorf("%s %s: %d, a problem: %v: %s", c.method, c.path, got.Code, isProblem, got.Body)
		}
		if got.Header().Get("X-Request-ID") == "" {
			t.Errorf("%s %s has no name", c.method, c.path)
		}
	}
	if log := r.log.String(); !strings.Contains(log, `"route":"/pages/{name}"`) || !strings.Contains(log, "a page broke") {
		t.Errorf("logged: %s", log)
	}
	if metrics := string(r.do("", http.MethodGet, "/metrics", "").body); !strings.Contains(metrics, `route="/pages/{name}"`) ||
		strings.Contains(metrics, "/pages/one") {
		t.Errorf("counted: %s", metrics)
	}
}
