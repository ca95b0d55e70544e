package console_test

import (
	"net/http"
	"strings"
	"testing"

	"oprelay/storage"
)

func TestOwnPages(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	credential := r.made(key, "/v1/credentials", `{"name":"cloudflare","api_token":"token"}`)
	destination := r.made(key, "/v1/destinations", `{"type":"webhook","name":"hook","url":"`+publicURL+`"}`)
	watch := r.made(key, "/v1/watches", `{"operation_id":"`+operationID+`","account_id":"`+accountID+`","credential_id":"`+credential+
		`","destination_ids":["`+destination+`"]}`)
	b := r.signedIn(r.tenant, storage.ScopeWrite)
	for path, want := range map[string]string{
		"/":                 watch,
		"/watches":          watch,
		"/watches/" + watch: "Cancel watch",
	} {
		if got := b.get(path); got.status != http.StatusOK || !strings.Contains(got.body, want) {
			t.Errorf("GET %s: %d, want %q in\n%s", path, got.status, want, got.body)
		}
	}
	if got := b.get("/nothing"); got.status != http.StatusNotFound || !strings.Contains(got.body, "There is no such page") {
		t.Errorf("GET /nothing: %d\n%s", got.status, got.body)
	}
}
