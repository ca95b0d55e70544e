package api_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"oprelay/notifier"
	"oprelay/notifier/egress"
	"oprelay/notifier/webhooktest"
	"oprelay/storage"
)

const signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// webhookDocument is what x-webhooks tells receivers.
type webhookDocument struct {
	Event struct{ Post openapi3.Operation }
}

func readWebhooks(t *testing.T) openapi3.Operation {
	t.Helper()
	text, err := json.Marshal(readDocument(t).Extensions["x-webhooks"])
	must(t, err)
	var webhooks webhookDocument
	must(t, json.Unmarshal(text, &webhooks))
	return webhooks.Event.Post
}

// oneOfEachEvent makes an event of each type, and returns their bodies by type.
func (r *relay) oneOfEachEvent() map[string]json.RawMessage {
	r.t.Helper()
	ctx := r.t.Context()
	credentialID, destinationID := r.credential(r.write), r.webhook(r.write)
	for _, end := range []string{storage.WatchCompleted, storage.WatchFailed} {
		r.watch(r.write, credentialID, destinationID)
		must(r.t, r.store.RecordPolls(ctx, []storage.PollResult{{
			RowID: r.poll(credentialID).RowID, At: r.store.Steady(), Status: end, End: end, Error: "why", CompletedAt: r.clock.Now(),
		}}))
		r.clock.advance(time.Hour) // the budget is whole again
	}
	r.watch(r.write, credentialID, destinationID)
	r.expire()
	r.watch(r.write, credentialID, destinationID)
	refused := []storage.PollResult{{
		RowID: r.poll(credentialID).RowID, At: r.store.Steady(), Next: r.store.Steady(), Problem: "HTTP 403", RefusedSince: r.store.Steady(),
		RefusedReason: storage.ReasonCredentialRejected, CredentialRefused: true,
	}}
	must(r.t, r.store.RecordPolls(ctx, refused))
	_, err := r.store.RecordRefusals(ctx, refused, 0)
	must(r.t, err)
	must(r.t, r.store.EndRejected(ctx, credentialID))
	other := r.webhook(r.write)
	r.do(r.write, http.MethodPost, "/v1/destinations/"+other+"/test", "")
	r.attempted(other, storage.DeliveryFailed, "refused")
	r.clock.advance(time.Minute) // the failing waits for others
	_, err = r.store.TellFailed(ctx, 10)
	must(r.t, err)
	_, err = r.store.DisableDestination(ctx, r.tenant.ID, destinationID, storage.DisabledFailing)
	must(r.t, err)

	var list struct {
		Data []struct {
			Type string
			Body json.RawMessage
		}
	}
	must(r.t, json.Unmarshal(r.do(r.write, http.MethodGet, "/v1/events?limit=200", "").body, &list))
	bodies := make(map[string]json.RawMessage)
	for _, event := range list.Data {
		bodies[event.Type] = event.Body
	}
	return bodies
}

// What is sent of each type is what its schema and its example say, field by field.
func TestEventBodiesAreAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	bodies := newRelay(t).oneOfEachEvent()
	schemas := readDocument(t).Components.Schemas
	described := readWebhooks(t).RequestBody.Value.Content.Get("application/json")
	for _, kind := range schemas["EventType"].Value.Enum {
		kind, _ := kind.(string)
		body, example := decoded(t, bodies[kind]), any(nil)
		if shown := described.Examples[kind]; shown != nil {
			example = shown.Value.Value
		}
		name := strings.TrimPrefix(schemas["EventBody"].Value.Discriminator.Mapping[kind].Ref, "#/components/schemas/")
		schema := schemas[name]
		if schema == nil || body == nil || example == nil {
			t.Errorf("%s: schema %q, example %v, body %v", kind, name, example, body)
			continue
		}
		for what, value := range map[string]any{"body": body, "example": example} {
			if err := schemas["EventBody"].Value.VisitJSON(value); err != nil {
				t.Errorf("the %s of %s: %v", what, kind, err)
			}
			if got, want := fieldsOf(schema.Value, value, ""), fieldsIn(schema.Value, ""); !slices.Equal(got, want) {
				t.Errorf("the %s of %s has the fields\n%v, its schema\n%v", what, kind, got, want)
			}
		}
	}
}

func decoded(t *testing.T, text json.RawMessage) (value any) {
	t.Helper()
	if text != nil {
		must(t, json.Unmarshal(text, &value))
	}
	return value
}

// fieldsIn are the fields that a schema has, with those of its parts.
func fieldsIn(schema *openapi3.Schema, path string) []string {
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		fields = append(fields, path+"/"+name)
		fields = append(fields, fieldsIn(schema.Properties[name].Value, path+"/"+name)...)
	}
	return fields
}

// fieldsOf are the fields that a value has, but for those whose names are not the schema's.
func fieldsOf(schema *openapi3.Schema, value any, path string) []string {
	object, _ := value.(map[string]any)
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if schema.AdditionalProperties.Schema != nil {
			continue
		}
		fields = append(fields, path+"/"+name)
		if property := schema.Properties[name]; property != nil {
			fields = append(fields, fieldsOf(property.Value, object[name], path+"/"+name)...)
		}
	}
	return fields
}

// The headers of a message are those that the document names, and what belongs to the connection.
func TestWebhookHeadersAreAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	receiver := webhooktest.New(signingSecret)
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)
	if err := sendSigned(t, server.URL, signingSecret, "event_01jd8p5kzve6wbdq8rfg0m3c7x", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	arrival := receiver.Arrivals()[0]
	documented := []string{"Content-Type"}
	for _, p := range readWebhooks(t).Parameters {
		documented = append(documented, http.CanonicalHeaderKey(p.Value.Name))
	}
	slices.Sort(documented)
	arrival.Header.Del("Content-Length")
	arrival.Header.Del("Accept-Encoding")
	if got := slices.Sorted(maps.Keys(arrival.Header)); arrival.Err != nil || !slices.Equal(got, documented) {
		t.Errorf("sent were %v, documented are %v; verified: %v", got, documented, arrival.Err)
	}
}

// sendSigned sends a message as the relay does.
func sendSigned(t *testing.T, url, secret, id string, body []byte) error {
	t.Helper()
	sender := notifier.New(notifier.Config{
		Egress: egress.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, Timeout: time.Minute,
	})
	t.Cleanup(sender.Close)
	_, err := sender.SendWebhook(t.Context(), notifier.Webhook{URL: url, Secrets: []string{secret}}, notifier.Message{EventID: id, Body: body})
	return err
}
