package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// firstOf is the id of the first row of a list, as a key sees it.
func (r *relay) firstOf(key, path string) string {
	r.t.Helper()
	var list struct{ Data []struct{ ID string } }
	answer := r.do(key, http.MethodGet, path, "")
	must(r.t, json.Unmarshal(answer.body, &list))
	if len(list.Data) == 0 {
		r.t.Fatalf("%s is empty", path)
	}
	return list.Data[0].ID
}

// refusal is a request that must be refused with nothing stored.
type refusal struct {
	name     string
	path     string // POST
	body     string
	changes  []change
	status   int
	pointers []string
	says     string // part of the first error's detail, or of the problem's
}

func TestBadInputIsRefusedWithEveryFaultNamed(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	credentialID, destinationID := r.credential(r.write), r.webhook(r.write)
	_, other := r.otherTenant()
	otherCredential, otherDestination := r.credential(other), r.webhook(other)
	before := r.rows()

	tests := slices.Concat(
		watchRefusals(credentialID, destinationID, otherCredential, otherDestination),
		destinationRefusals(), credentialRefusals(), bodyRefusals(watchBody(credentialID, destinationID)),
	)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			answer := r.do(r.admin, http.MethodPost, test.path, test.body, test.changes...)
			if answer.status != test.status {
				t.Fatalf("status %d, want %d: %s", answer.status, test.status, answer.body)
			}
			if got := answer.pointers(); !slices.Equal(got, test.pointers) && len(got)+len(test.pointers) > 0 {
				t.Errorf("pointers %q, want %q: %s", got, test.pointers, answer.body)
			}
			if !strings.Contains(string(answer.body), test.says) {
				t.Errorf("does not say %q: %s", test.says, answer.body)
			}
			if after := r.rows(); !maps.Equal(before, after) {
				t.Errorf("something was stored: %v, before %v", after, before)
			}
		})
	}
}

func watchRefusals(credentialID, destinationID, otherCredential, otherDestination string) []refusal {
	const path = "/v1/watches"
	good := watchBody(credentialID, destinationID)
	with := func(field, value string) string {
		var body map[string]json.RawMessage
		_ = json.Unmarshal([]byte(good), &body)
		body[field] = json.RawMessage(value)
		changed, _ := json.Marshal(body)
		return string(changed)
	}
	var keys []string
	for i := range 51 {
		keys = append(keys, fmt.Sprintf(`"k%d":""`, i))
	}
	const unknown = "_01jd8p5kzve6wbdq8rfg0m3c7x"
	invalid := http.StatusUnprocessableEntity
	return []refusal{
		{"operation id not 32 hex", path, with("operation_id", `"../../user/tokens/verify"`), nil, invalid, []string{"/operation_id"}, "[0-9a-f]{32}"},
		{"operation id with a query", path, with("operation_id", `"x?y=1"`), nil, invalid, []string{"/operation_id"}, "[0-9a-f]{32}"},
		{"operation id upper case", path, with("operation_id", `"4DA8780EEB215E6CB7F48DD981C4EA02"`), nil, invalid, []string{"/operation_id"}, ""},
		{"operation id and a line break", path, with("operation_id", `"4da8780eeb215e6cb7f48dd981c4ea02\n"`), nil, invalid, []string{"/operation_id"}, ""},
		{"account id not 32 hex", path, with("account_id", `"023e"`), nil, invalid, []string{"/account_id"}, "32 lower-case hex"},
		{"unknown credential", path, with("credential_id", `"credential`+unknown+`"`), nil, invalid, []string{"/credential_id"}, "no such credential"},
		{"another tenant's credential", path, with("credential_id", `"`+otherCredential+`"`), nil, invalid, []string{"/credential_id"}, "no such credential"},
		{"no credential id at all", path, with("credential_id", `"`+destinationID+`"`), nil, invalid, []string{"/credential_id"}, "not the id of a credential"},
		{"unknown destination", path, with("destination_ids", `["`+destinationID+`","destination`+unknown+`"]`), nil, invalid, []string{"/destination_ids/1"}, "no such destination"},
		{"another tenant's destination", path, with("destination_ids", `["`+otherDestination+`"]`), nil, invalid, []string{"/destination_ids/0"}, "no such destination"},
		{"the same destination twice", path, with("destination_ids", `["`+destinationID+`","`+destinationID+`"]`), nil, invalid, []string{"/destination_ids/1"}, "same as item 0"},
		{"no list of destinations", path, with("destination_ids", `null`), nil, invalid, []string{"/destination_ids"}, "must be a list"},
		{"another source", path, with("source", `"github.actions"`), nil, invalid, []string{"/source"}, "cloudflare.lists"},
		{"a name too long", path, with("name", `"`+strings.Repeat("x", 201)+`"`), nil, invalid, []string{"/name"}, "200"},
		{"a name of two lines", path, with("name", `"a\nb"`), nil, invalid, []string{"/name"}, "one line"},
		{"an empty name", path, with("name", `""`), nil, invalid, []string{"/name"}, ""},
		{"timeout too short", path, with("timeout_seconds", `59`), nil, invalid, []string{"/timeout_seconds"}, "from 60 to 2592000"},
		{"timeout too long", path, with("timeout_seconds", `2592001`), nil, invalid, []string{"/timeout_seconds"}, "from 60 to 2592000"},
		{"timeout absurd", path, with("timeout_seconds", `1e999`), nil, invalid, []string{"/timeout_seconds"}, "from 60 to 2592000"},
		{"timeout with a fraction", path, with("timeout_seconds", `60.5`), nil, invalid, []string{"/timeout_seconds"}, "whole number"},
		{"timeout in words", path, with("timeout_seconds", `"1h"`), nil, invalid, []string{"/timeout_seconds"}, "whole number"},
		{"no events", path, with("events", `[]`), nil, invalid, []string{"/events"}, "1 to 4 items"},
		{"unknown event", path, with("events", `["operation.completed","destination.test"]`), nil, invalid, []string{"/events/1"}, "one of: operation.completed"},
		{"metadata too large", path, with("metadata", `{"k":"`+strings.Repeat("x", 8192)+`"}`), nil, invalid, []string{"/metadata"}, "8 KiB"},
		{"metadata with too many keys", path, with("metadata", `{`+strings.Join(keys, ",")+`}`), nil, invalid, []string{"/metadata"}, "at most 50 keys"},
		{"metadata that is no text", path, with("metadata", `{"a/b":1}`), nil, invalid, []string{"/metadata/a~1b"}, "must be a string"},
		{"metadata with a NUL", path, with("metadata", `{"k":"a\u0000b"}`), nil, invalid, []string{"/metadata/k"}, "control characters"},
		{"metadata with a line break in a key", path, with("metadata", `{"a\nb":""}`), nil, invalid, []string{"/metadata/a\nb"}, "control characters"},
		{"null", path, with("metadata", `null`), nil, invalid, []string{"/metadata"}, "must not be null"},
		{"unknown fields", path, with("operation", `"x"`), nil, invalid, []string{"/operation"}, "not a field"},
		{"a field in another case", path, with("Metadata", `{}`), nil, invalid, []string{"/Metadata"}, "not a field"},
		{"nothing", path, `{}`, nil, invalid, []string{"/operation_id", "/credential_id", "/destination_ids", "/account_id"}, "is required"},
		{"no object", path, `[]`, nil, invalid, []string{""}, "must be an object"},
		{"null for an object", path, `null`, nil, invalid, []string{""}, "must be an object"},
		{"null where a value is required", path, with("operation_id", `null`), nil, invalid, []string{"/operation_id"}, `"detail":"must be a string"`},
		{"null in a list", path, with("destination_ids", `[null]`), nil, invalid, []string{"/destination_ids/0"}, `"detail":"must be a string"`},
		{"null in a batch", path + "/batch", `{"watches":[null]}`, nil, invalid, []string{"/watches/0"}, `"detail":"must be an object"`},
		{
			"null where a value is required in a batch", path + "/batch", `{"watches":[` + with("destination_ids", `null`) + `]}`, nil, invalid,
			[]string{"/watches/0/destination_ids"},
			`"detail":"must be a list"`,
		},
		{
			"null where a value may be left out in a batch", path + "/batch", `{"watches":[` + with("events", `null`) + `]}`, nil, invalid,
			[]string{"/watches/0/events"},
			"leave it out",
		},
		{"null as metadata", path, with("metadata", `{"k":null}`), nil, invalid, []string{"/metadata/k"}, "leave it out"},
		{
			"everything at once", path,
			`{"operation_id":5,"account_id":"x","credential_id":"credential` + unknown + `","destination_ids":["destination` + unknown +
				`"],"timeout_seconds":1,"nonsense":true}`, nil, invalid,
			[]string{"/nonsense", "/account_id", "/operation_id", "/timeout_seconds", "/credential_id", "/destination_ids/0"},
			"6 values are wrong",
		},
		{
			"one bad watch in a batch", path + "/batch",
			`{"watches":[` + good + `,` + with("credential_id", `"`+otherCredential+`"`) + `,` + with("timeout_seconds", `0`) + `]}`, nil, invalid,
			[]string{"/watches/2/timeout_seconds", "/watches/1/credential_id"},
			"",
		},
		{"an empty batch", path + "/batch", `{"watches":[]}`, nil, invalid, []string{"/watches"}, "1 to 1000 items"},
		{
			"a batch too large", path + "/batch", `{"watches":[` + strings.TrimSuffix(strings.Repeat(good+",", 1001), ",") + `]}`, nil, invalid,
			[]string{"/watches"},
			"1 to 1000 items",
		},
	}
}

func destinationRefusals() []refusal {
	const path = "/v1/destinations"
	webhook := func(more string) string {
		return `{"type":"webhook","name":"hook","url":"` + publicURL + `"` + more + `}`
	}
	at := func(url string) string { return `{"type":"webhook","name":"hook","url":"` + url + `"}` }
	secret := func(value string) string { return webhook(`,"secret":"` + value + `"`) }
	invalid := http.StatusUnprocessableEntity
	return []refusal{
		{"loopback", path, at("http://127.0.0.1/"), nil, invalid, []string{"/url"}, "RELAY_EGRESS_ALLOW"},
		{"private address", path, at("https://10.1.2.3/x"), nil, invalid, []string{"/url"}, "private"},
		{"metadata service", path, at("http://169.254.169.254/latest"), nil, invalid, []string{"/url"}, ""},
		{"loopback over IPv6", path, at("http://[::1]/"), nil, invalid, []string{"/url"}, ""},
		{"loopback as a number", path, at("http://2130706433/"), nil, invalid, []string{"/url"}, ""},
		{"user and password", path, at("https://user:pass@93.184.215.14/"), nil, invalid, []string{"/url"}, "password"},
		{"another scheme", path, at("ftp://93.184.215.14/"), nil, invalid, []string{"/url"}, "http"},
		{"no URL", path, at("not a url"), nil, invalid, []string{"/url"}, ""},
		{"a URL too long", path, at("https://93.184.215.14/" + strings.Repeat("x", 2048)), nil, invalid, []string{"/url"}, "2048"},
		{"a webhook without URL", path, `{"type":"webhook","name":"x"}`, nil, invalid, []string{"/url"}, "required for a webhook"},
		{"secret too short", path, secret("whsec_c2hvcnQ="), nil, invalid, []string{"/secret"}, "24 to 64"},
		{"secret too long", path, secret("whsec_" + strings.Repeat("AAAA", 22)), nil, invalid, []string{"/secret"}, "24 to 64"},
		{"secret with v1, before it", path, secret("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), nil, invalid, []string{"/secret"}, "v1,"},
		{"secret without whsec_", path, secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), nil, invalid, []string{"/secret"}, "whsec_"},
		{"headers of the relay's own", path, webhook(`,"headers":{"Webhook-Id":"x","Host":"y","X-Good":"z"}`), nil, invalid, []string{"/headers/Host", "/headers/Webhook-Id"}, "set by the relay"},
		{"a header with a line break", path, webhook(`,"headers":{"X-A":"a\r\nX-B: b"}`), nil, invalid, []string{"/headers/X-A"}, "line break"},
		{"fields of Slack", path, webhook(`,"bot_token":"xoxb-1","channel":"C1"`), nil, invalid, []string{"/bot_token", "/channel"}, "slack"},
		{"an unknown type", path, `{"type":"email","name":"x"}`, nil, invalid, []string{"/type"}, "one of: webhook, slack"},
		{"a blank name", path, `{"type":"webhook","name":" ","url":"` + publicURL + `"}`, nil, invalid, []string{"/name"}, "something to read"},
		{"a name of zero width", path, `{"type":"webhook","name":"\u200b\u200b","url":"` + publicURL + `"}`, nil, invalid, []string{"/name"}, "turn its direction"},
		{"a name of unseen characters", path, `{"type":"webhook","name":"\u00a0\u3164\u2800\ufe0f","url":"` + publicURL + `"}`, nil, invalid, []string{"/name"}, "turn its direction"},
		{"a name that turns", path, `{"type":"webhook","name":"\u202e","url":"` + publicURL + `"}`, nil, invalid, []string{"/name"}, "turn its direction"},
		{"a name that turns what follows", path, `{"type":"webhook","name":"eu \u202egpj","url":"` + publicURL + `"}`, nil, invalid, []string{"/name"}, "turn its direction"},
		{"a name that isolates", path, `{"type":"webhook","name":"\u2066eu\u2069","url":"` + publicURL + `"}`, nil, invalid, []string{"/name"}, "turn its direction"},
		{"a name of two lines", path, `{"type":"webhook","name":"a\nb","url":"` + publicURL + `"}`, nil, invalid, []string{"/name"}, "one line"},
		{"Slack without anything", path, `{"type":"slack","name":"x"}`, nil, invalid, []string{"/webhook_url"}, "bot_token and channel"},
		{"Slack both ways", path, `{"type":"slack","name":"x","webhook_url":"` + publicURL + `","bot_token":"xoxb-1","channel":"C1"}`, nil, invalid, []string{"/bot_token", "/channel"}, "either"},
		{"a bot without channel", path, `{"type":"slack","name":"x","bot_token":"xoxb-1"}`, nil, invalid, []string{"/channel"}, "required"},
		{"Slack at a private address", path, `{"type":"slack","name":"x","webhook_url":"http://192.168.0.1/"}`, nil, invalid, []string{"/webhook_url"}, ""},
		{"Slack with a secret", path, `{"type":"slack","name":"x","webhook_url":"` + publicURL + `","secret":"whsec_"}`, nil, invalid, []string{"/secret"}, "webhook"},
		{"no place to be in flight", path, webhook(`,"max_in_flight":0`), nil, invalid, []string{"/max_in_flight"}, "from 1"},
	}
}

func credentialRefusals() []refusal {
	const path = "/v1/credentials"
	invalid := http.StatusUnprocessableEntity
	return []refusal{
		{"a credential without secret", path, `{"name":"x"}`, nil, invalid, []string{"/api_token"}, "email and api_key"},
		{"a credential both ways", path, `{"name":"x","api_token":"t","email":"a@b","api_key":"k"}`, nil, invalid, []string{"/email", "/api_key"}, "takes api_token, or email and api_key"},
		{"a credential of another upstream", path, `{"name":"x","upstream":"nobody","api_token":"t"}`, nil, invalid, []string{"/upstream"}, "cloudflare"},
		{"a field in other letters", path, `{"name":"x","API_TOKEN":"t"}`, nil, invalid, []string{"/API_TOKEN", "/api_token"}, "not a field"},
		{"a list for a credential", path, `[]`, nil, invalid, []string{""}, "must be an object"},
		{"a string for a credential", path, `"x\u0000"`, nil, invalid, []string{""}, "must be an object"},
		{"an email without key", path, `{"name":"x","email":"a@b"}`, nil, invalid, []string{"/api_key"}, "required"},
		{"a token with a line break", path, `{"name":"x","api_token":"a\nb"}`, nil, invalid, []string{"/api_token"}, "printable"},
		{"no email", path, `{"name":"x","email":"ab","api_key":"k"}`, nil, invalid, []string{"/email"}, ""},
		{"a key with an unknown scope", "/v1/keys", `{"name":"x","scopes":["root"]}`, nil, invalid, []string{"/scopes/0"}, "read, write, admin"},
		{"a key without scopes", "/v1/keys", `{"name":"x","scopes":[]}`, nil, invalid, []string{"/scopes"}, ""},
		{"an idempotency key that is empty", path, `{"name":"x","api_token":"t"}`, []change{withHeader("Idempotency-Key", "")}, invalid, []string{"Idempotency-Key:"}, ""},
		{"an idempotency key too long", path, `{"name":"x","api_token":"t"}`, []change{withHeader("Idempotency-Key", strings.Repeat("k", 256))}, invalid, []string{"Idempotency-Key:"}, "255"},
		{"two idempotency keys", path, `{"name":"x","api_token":"t"}`, []change{func(r *http.Request) {
			r.Header["Idempotency-Key"] = []string{"a", "b"}
		}}, invalid, []string{"Idempotency-Key:"}, "once"},
		{"an unknown query", path + "?dry_run=1", `{"name":"x","api_token":"t"}`, nil, invalid, []string{"?dry_run"}, "not a parameter"},
	}
}

func bodyRefusals(good string) []refusal {
	const path = "/v1/watches"
	large := `{"metadata":{"k":"` + strings.Repeat("x", 1<<20) + `"}}`
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	notJSON, tooLarge, wrongType := http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType
	return []refusal{
		{"broken JSON", path, `{"operation_id":`, nil, notJSON, nil, "ends too early"},
		{"trailing garbage", path, good + `{}`, nil, notJSON, nil, "At byte"},
		{"a field twice", path, `{"operation_id":"a","operation_id":"b"}`, nil, notJSON, nil, "twice"},
		{"bytes that are not UTF-8", path, "{\"operation_id\":\"\xff\"}", nil, notJSON, nil, "UTF-8"},
		{"half of a surrogate pair", path, `{"metadata":{"k":"\ud800"}}`, nil, notJSON, nil, "At byte 19: invalid surrogate pair"},
		{"a NUL byte", path, "{\"operation_id\":\"\x00\"}", nil, notJSON, nil, "At byte"},
		{"deep nesting", path, strings.Repeat("[", 500000), nil, notJSON, nil, ""},
		{"deep nesting, closed", path, strings.Repeat("[", 5000) + strings.Repeat("]", 5000), nil, http.StatusUnprocessableEntity, []string{""}, "must be an object"},
		{"white space", path, " ", nil, notJSON, nil, ""},
		{"a body over 1 MiB", path, large, nil, tooLarge, nil, "1 MiB"},
		{"a body over 1 MiB without length", path, large, []change{chunked}, tooLarge, nil, "1 MiB"},
		{"a form", path, good, []change{withHeader("Content-Type", "application/x-www-form-urlencoded")}, wrongType, nil, "application/json"},
		{"text", path, good, []change{withHeader("Content-Type", "text/json; charset=utf-8")}, wrongType, nil, "application/json"},
		{"no content type", path, good, []change{func(r *http.Request) { r.Header.Del("Content-Type") }}, wrongType, nil, "application/json"},
		{"a compressed body", path, good, []change{withHeader("Content-Encoding", "gzip")}, wrongType, nil, "without compression"},
	}
}

func TestQueriesAreChecked(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	watchID := r.watch(r.write, r.credential(r.write), r.webhook(r.write))
	tests := []struct{ path, pointer string }{
		{"/v1/watches?limit=0", "?limit"},
		{"/v1/watches?limit=201", "?limit"},
		{"/v1/watches?limit=ten", "?limit"},
		{"/v1/watches?limit=", "?limit"},
		{"/v1/watches?limit=1&limit=2", "?limit"},
		{"/v1/watches?cursor=" + watchID, "?cursor"},
		{"/v1/watches?cursor=!", "?cursor"},
		{"/v1/events?after=event_01jd8p5kzve6wbdq8rfg0m3c7x&cursor=x", "?cursor"},
		{"/v1/watches?cursor=", "?cursor"},
		{"/v1/watches?status=done", "?status"},
		{"/v1/watches?statsu=watching", "?statsu"},
		{"/v1/watches?account_id=x", "?account_id"},
		{"/v1/watches?limit=%zz", "?"},
		{"/v1/deliveries?status=sent", "?status"},
		{"/v1/deliveries?watch_id=" + strings.ToUpper(watchID), "?watch_id"},
		{"/v1/events?after=event_01jd8p5kzve6wbdq8rfg0m3c7x", "?after"},
		{"/v1/events?after=x", "?after"},
		{"/v1/watches/" + watchID + "?wait=61s", "?wait"},
		{"/v1/watches/" + watchID + "?wait=-1s", "?wait"},
		{"/v1/watches/" + watchID + "?wait=1h", "?wait"},
		{"/v1/watches/" + watchID + "?wait=999999999m", "?wait"},
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			answer := r.do(r.write, http.MethodGet, test.path, "")
			if answer.status != http.StatusUnprocessableEntity || strings.Join(answer.pointers(), " ") != test.pointer {
				t.Errorf("%d %s, want 422 at %s", answer.status, answer.body, test.pointer)
			}
		})
	}
}

// A name may be in any writing.
func TestNamesInAnyWriting(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	for _, name := range []string{"x", " padded ", "développement", "עברית \u200f", "👩\u200d🚀", "#edge\u00a0"} {
		body, err := json.Marshal(map[string]string{"name": name, "api_token": "t"})
		must(t, err)
		if answer := r.do(r.admin, http.MethodPost, "/v1/credentials", string(body)); answer.status != http.StatusCreated {
			t.Errorf("%q: %d %s", name, answer.status, answer.body)
		}
	}
}
