package api_test

import (
	"net/http"
	"strings"
	"testing"
)

// Every secret that comes in carries the marker, so that one search finds any
// that goes out where it must not.
const marker = "MARKERmarker"

func TestSecretsAreSeenOnceAndNeverLogged(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	secret := "whsec_" + marker + "AAAAAAAAAAAAAAAAAAAAAAAA"
	posts := map[string]string{
		"token":   `{"name":"x","api_token":"` + marker + `"}`,
		"key":     `{"name":"x","email":"a@b.example","api_key":"` + marker + `"}`,
		"webhook": `{"type":"webhook","name":"x","url":"` + publicURL + `","secret":"` + secret + `","headers":{"X-Key":"` + marker + `"}}`,
		"slack":   `{"type":"slack","name":"x","webhook_url":"` + publicURL + `/` + marker + `"}`,
		"bot":     `{"type":"slack","name":"x","bot_token":"xoxb-` + marker + `","channel":"C1"}`,
	}
	patches := map[string]string{
		"token":   `{"api_token":"other-` + marker + `"}`,
		"key":     `{"email":"a@b.example","api_key":"other-` + marker + `"}`,
		"webhook": `{"headers":{"X-Other":"` + marker + `"}}`,
		"slack":   `{"webhook_url":"` + publicURL + `/other-` + marker + `"}`,
		"bot":     `{"bot_token":"xoxb-other-` + marker + `"}`,
	}
	paths := map[string]string{"token": "/v1/credentials", "key": "/v1/credentials"}
	for name, body := range posts {
		path := paths[name]
		if path == "" {
			path = "/v1/destinations"
		}
		made := r.do(r.write, http.MethodPost, path, body)
		if made.status != http.StatusCreated {
			t.Fatalf("%s: %d %s", name, made.status, made.body)
		}
		if once := name == "webhook"; strings.Contains(string(made.body), marker) != once {
			t.Errorf("%s answers %s", name, made.body)
		}
		id := made.header.Get("Location")
		if shown := r.do(r.write, http.MethodGet, id, ""); strings.Contains(string(shown.body), marker) {
			t.Errorf("%s is shown as %s", name, shown.body)
		}
		if patch := patches[name]; patch != "" {
			if changed := r.do(r.write, http.MethodPatch, id, patch); changed.status != http.StatusOK || strings.Contains(string(changed.body), marker) {
				t.Errorf("%s is changed to %d %s", name, changed.status, changed.body)
			}
		}
		if listed := r.do(r.write, http.MethodGet, path, ""); strings.Contains(string(listed.body), marker) {
			t.Errorf("%s is listed as %s", name, listed.body)
		}
	}
	refusals := []string{
		`{"type":"webhook","name":"x","url":"http://` + marker + `:` + marker + `@127.0.0.1/` + marker + `"}`,
		`{"type":"webhook","name":"x","url":"` + publicURL + `","secret":"v1,` + marker + `"}`,
		`{"type":"webhook","name":"x","url":"` + publicURL + `","secret":"` + marker + `"}`,
		`{"type":"webhook","name":"x","url":"` + publicURL + `","headers":{"Host":"` + marker + `","X-A":"\n` + marker + `"}}`,
		`{"type":"slack","name":"x","webhook_url":"http://10.0.0.1/` + marker + `"}`,
		`{"type":"slack","name":"x","webhook_url":["` + marker + `"]}`,
		`{"type":"slack","name":"x","bot_token":"` + marker + ` x"}`,
		`{"type":"slack","name":"x","bot_token":"` + marker,
	}
	for _, body := range refusals {
		refused := r.do(r.write, http.MethodPost, "/v1/destinations", body)
		if refused.status < 400 || strings.Contains(string(refused.body), marker) {
			t.Errorf("%s\nis refused with %d %s", body, refused.status, refused.body)
		}
	}
	r.do(marker, http.MethodGet, "/v1/watches", "")
	if log := r.log.String(); strings.Contains(log, marker) || strings.Contains(log, "relay_") {
		t.Errorf("the log holds a secret:\n%s", log)
	}
}
