package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/storage"
)

// ok fails the test unless the call succeeded with the status.
func ok[R interface{ StatusCode() int }](t *testing.T, status int) func(R, error) R {
	t.Helper()
	return func(answer R, err error) R {
		t.Helper()
		must(t, err)
		if answer.StatusCode() != status {
			t.Fatalf("status %d, want %d: %+v", answer.StatusCode(), status, answer)
		}
		return answer
	}
}

func TestAWatchFromRegistrationToItsDelivery(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	c, ctx := r.client(r.write), t.Context()

	credential := ok[*client.CreateCredentialResponse](t, 201)(c.CreateCredentialWithResponse(ctx, nil,
		client.NewCredential{Name: "cf", Email: new("ops@example.com"), APIKey: new("k")})).JSON201
	if credential.Auth != client.AuthAPIKey || credential.Status != client.CredentialActive {
		t.Errorf("credential %+v", credential)
	}
	destination := ok[*client.CreateDestinationResponse](t, 201)(c.CreateDestinationWithResponse(ctx, nil, client.NewDestination{
		Type: client.DestinationWebhook, Name: "hook", URL: new(publicURL), Alerts: new(true),
		Headers: &client.Headers{"X-Api-Key": "value"},
	})).JSON201
	if destination.Secret == nil || !strings.HasPrefix(*destination.Secret, "whsec_") {
		t.Errorf("a webhook's secret is shown once: %+v", destination)
	}
	if (*destination.Headers)["X-Api-Key"] != "••••" {
		t.Errorf("headers %v", *destination.Headers)
	}
	created := ok[*client.CreateWatchResponse](t, 201)(c.CreateWatchWithResponse(ctx, nil, client.NewWatch{
		OperationID: operationID, AccountID: new(accountID), CredentialID: credential.ID,
		DestinationIds: []string{destination.ID}, TimeoutSeconds: new(60), Metadata: &client.Metadata{"deploy": "42\n<b>"},
	}))
	watch := created.JSON201
	if watch.Status != "watching" || watch.Operation.Source != "cloudflare.lists" || len(watch.Events) != 4 {
		t.Errorf("watch %+v", watch)
	}
	if location := created.HTTPResponse.Header.Get("Location"); location != "/v1/watches/"+watch.ID {
		t.Errorf("Location %q", location)
	}
	if answer := r.do(r.write, http.MethodDelete, "/v1/credentials/"+credential.ID, ""); answer.status != http.StatusConflict {
		t.Errorf("a credential in use: %d", answer.status)
	}

	r.expire()
	ended := ok[*client.GetWatchResponse](t, 200)(c.GetWatchWithResponse(ctx, watch.ID, &client.GetWatchParams{Wait: new("30s")})).JSON200
	if ended.Status != "expired" || ended.EventID == nil || ended.FinishedAt == nil || ended.NextPollAt != nil {
		t.Errorf("ended %+v", ended)
	}
	event := ok[*client.GetEventResponse](t, 200)(c.GetEventWithResponse(ctx, *ended.EventID)).JSON200
	stored, err := r.store.Event(ctx, r.tenant.ID, event.ID)
	must(t, err)
	if string(event.Body) != string(stored.Body) {
		t.Errorf("the body is shown as\n%s, and sent as\n%s", event.Body, stored.Body)
	}
	deliveries := ok[*client.ListDeliveriesResponse](t, 200)(c.ListDeliveriesWithResponse(ctx,
		&client.ListDeliveriesParams{WatchID: &watch.ID, DestinationID: &destination.ID, EventID: &event.ID})).JSON200
	if len(deliveries.Data) != 1 || deliveries.Data[0].Status != client.DeliveryPending {
		t.Fatalf("deliveries %+v", deliveries.Data)
	}
	delivery := ok[*client.GetDeliveryResponse](t, 200)(c.GetDeliveryWithResponse(ctx, deliveries.Data[0].ID)).JSON200
	if delivery.Attempts == nil || len(*delivery.Attempts) != 0 {
		t.Errorf("attempts %v", delivery.Attempts)
	}
	ok[*client.RedeliverResponse](t, 202)(c.RedeliverWithResponse(ctx, delivery.ID, nil))
	if answer := r.do(r.write, http.MethodDelete, "/v1/credentials/"+credential.ID, ""); answer.status != http.StatusNoContent {
		t.Errorf("a credential that no watch uses: %d", answer.status)
	}
}

func TestAWatchWithANameAndNobodyToTell(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	c, ctx := r.client(r.write), t.Context()
	source, name := "cloudflare.lists", strings.Repeat("é", 200)
	request := client.NewWatch{
		Source: &source, OperationID: operationID, AccountID: new(accountID), CredentialID: r.credential(r.write),
		DestinationIds: []string{}, TimeoutSeconds: new(60), Name: &name,
	}
	made := ok[*client.CreateWatchResponse](t, 201)(c.CreateWatchWithResponse(ctx, nil, request)).JSON201
	if made.Name == nil || *made.Name != name || made.DestinationIds == nil {
		t.Errorf("made %+v", made)
	}
	r.expire()
	ended := ok[*client.GetWatchResponse](t, 200)(c.GetWatchWithResponse(ctx, made.ID, nil)).JSON200
	if ended.EventID == nil || *ended.Name != name {
		t.Fatalf("ended %+v", ended)
	}
	event := ok[*client.GetEventResponse](t, 200)(c.GetEventWithResponse(ctx, *ended.EventID)).JSON200
	if !strings.Contains(string(event.Body), `"name":"`+name+`"`) {
		t.Errorf("told as %s", event.Body)
	}
	request.Name = nil
	if made = ok[*client.CreateWatchResponse](t, 201)(c.CreateWatchWithResponse(ctx, nil, request)).JSON201; made.Name != nil {
		t.Errorf("without a name: %+v", made)
	}
}

func TestADestinationsLife(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	c, ctx := r.client(r.write), t.Context()
	id := r.webhook(r.write)

	patched := ok[*client.UpdateDestinationResponse](t, 200)(c.UpdateDestinationWithResponse(ctx, id,
		client.DestinationPatch{Name: new("new"), RateLimit: new(5), Headers: &client.Headers{"X-A": "b"}})).JSON200
	if patched.Name != "new" || patched.RateLimit != 5 || patched.MaxInFlight != 20 || (*patched.Headers)["X-A"] != "••••" {
		t.Errorf("patched %+v", patched)
	}
	rotated := ok[*client.RotateSecretResponse](t, 200)(c.RotateSecretWithResponse(ctx, id, nil, client.SecretRotation{})).JSON200
	_, secrets, err := r.store.OpenDestination(ctx, id)
	must(t, err)
	if len(secrets.Signing) != 2 || string(secrets.Signing[0].Value) != *rotated.Secret {
		t.Error("after a rotation both secrets sign, the new one first")
	}
	disabled := ok[*client.DisableDestinationResponse](t, 200)(c.DisableDestinationWithResponse(ctx, id, nil)).JSON200
	if disabled.Status != "disabled" || *disabled.DisabledReason != client.DisabledByUser {
		t.Errorf("disabled %+v", disabled)
	}
	held := ok[*client.TestDestinationResponse](t, 202)(c.TestDestinationWithResponse(ctx, id, nil)).JSON202
	if held.Status != client.DeliveryHeld || held.WatchID != nil || held.EventType != client.EventDestinationTest {
		t.Errorf("test of a disabled destination %+v", held)
	}
	enabled := ok[*client.EnableDestinationResponse](t, 200)(c.EnableDestinationWithResponse(ctx, id, nil)).JSON200
	if enabled.Status != "enabled" || enabled.DisabledReason != nil {
		t.Errorf("enabled %+v", enabled)
	}
	recovered := ok[*client.RecoverDestinationResponse](t, 202)(c.RecoverDestinationWithResponse(ctx, id, nil,
		client.Recovery{Since: r.clock.Now().Add(-1)})).JSON202
	if recovered.Count != 1 {
		t.Errorf("recovered %d, want the test event", recovered.Count)
	}
	shown := ok[*client.GetDestinationResponse](t, 200)(c.GetDestinationWithResponse(ctx, id)).JSON200
	if shown.Waiting == nil || *shown.Waiting != 1 || shown.FailingSince != nil || shown.LastSuccessAt != nil || shown.LastError != nil {
		t.Errorf("with a test that waits: %+v", shown)
	}
	r.attempted(id, storage.DeliveryPending, "refused")
	shown = ok[*client.GetDestinationResponse](t, 200)(c.GetDestinationWithResponse(ctx, id)).JSON200
	if *shown.Waiting != 1 || shown.FailingSince == nil || *shown.LastError != "refused" {
		t.Errorf("with a test that failed: %+v", shown)
	}
	r.attempted(id, storage.DeliverySucceeded, "")
	shown = ok[*client.GetDestinationResponse](t, 200)(c.GetDestinationWithResponse(ctx, id)).JSON200
	if *shown.Waiting != 0 || shown.FailingSince != nil || shown.LastSuccessAt == nil || *shown.LastError != "refused" {
		t.Errorf("with a test that arrived: %+v", shown)
	}
	ok[*client.DeleteDestinationResponse](t, 204)(c.DeleteDestinationWithResponse(ctx, id, nil))
	ok[*client.GetDestinationResponse](t, 404)(c.GetDestinationWithResponse(ctx, id))
}

// attempted is what came of an attempt of the one delivery that a destination waits for.
func (r *relay) attempted(destinationID, status, why string) {
	r.t.Helper()
	ctx := r.t.Context()
	group := storage.Group{Kind: storage.DeliverGroup, ID: destinationID}
	leased, err := r.store.LeaseGroup(ctx, group, "test", time.Hour)
	if must(r.t, err); !leased {
		r.t.Fatal("nothing is due")
	}
	due, err := r.store.DueDeliveries(ctx, storage.TakeDeliveries{Group: group.ID, Owner: "test", Max: 9})
	if must(r.t, err); len(due) != 1 {
		r.t.Fatalf("%d deliveries are due", len(due))
	}
	must(r.t, r.store.RecordAttempts(ctx, []storage.AttemptResult{{
		DeliveryID: due[0].ID, DestinationID: group.ID, AttemptsMade: due[0].AttemptsMade, Status: status,
		Attempt: storage.Attempt{StartedAt: r.store.Steady(), Error: why}, NextAttemptAt: r.store.Steady(),
	}}))
	_, err = r.store.ReleaseGroup(ctx, group, "test", storage.Pause{})
	must(r.t, err)
}

func TestADestinationKeepsItsKind(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	webhook := r.webhook(r.write)
	slack := r.made(r.write, "/v1/destinations", `{"type":"slack","name":"s","webhook_url":"`+publicURL+`"}`)
	bot := r.made(r.write, "/v1/destinations", `{"type":"slack","name":"b","bot_token":"xoxb-1","channel":"C1"}`)
	tests := []struct {
		id, body string
		status   int
	}{
		{webhook, `{"webhook_url":"` + publicURL + `"}`, 422},
		{webhook, `{"channel":"C2"}`, 422},
		{webhook, `{"url":"http://127.0.0.1"}`, 422},
		{webhook, `{"type":"slack"}`, 422},
		{webhook, `{"url":"` + publicURL + `/2"}`, 200},
		{slack, `{"url":"` + publicURL + `"}`, 422},
		{slack, `{"headers":{}}`, 422},
		{slack, `{"bot_token":"xoxb-2"}`, 422},
		{slack, `{"webhook_url":"` + publicURL + `/2"}`, 200},
		{bot, `{"webhook_url":"` + publicURL + `"}`, 422},
		{bot, `{"bot_token":"xoxb-2","channel":"C2"}`, 200},
		{bot, `{}`, 200},
	}
	for _, test := range tests {
		if answer := r.do(r.write, http.MethodPatch, "/v1/destinations/"+test.id, test.body); answer.status != test.status {
			t.Errorf("%s: %d %s, want %d", test.body, answer.status, answer.body, test.status)
		}
	}
	if answer := r.do(r.write, http.MethodPost, "/v1/destinations/"+slack+"/rotate-secret", ""); answer.status != 422 {
		t.Errorf("rotating a secret that Slack has not: %d", answer.status)
	}
}

func TestADestinationInUseIsDeletedByForceAlone(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	credential, id := r.credential(r.write), r.webhook(r.write)
	watch := r.watch(r.write, credential, id)
	path := "/v1/destinations/" + id
	for _, query := range []string{"", "?force=false"} {
		answer := r.do(r.write, http.MethodDelete, path+query, "")
		if answer.status != http.StatusConflict || !strings.Contains(answer.problem.Detail, "name it: 1") ||
			!strings.Contains(answer.problem.Detail, "?force=true") {
			t.Errorf("%q: %d %s", query, answer.status, answer.body)
		}
	}
	if answer := r.do(r.write, http.MethodDelete, path+"?force=yes", ""); strings.Join(answer.pointers(), " ") != "?force" ||
		!strings.Contains(string(answer.body), "true or false") {
		t.Errorf("force=yes: %d %s", answer.status, answer.body)
	}
	if answer := r.do(r.write, http.MethodDelete, path+"?force=true", ""); answer.status != http.StatusNoContent {
		t.Errorf("by force: %d %s", answer.status, answer.body)
	}
	shown := ok[*client.GetWatchResponse](t, 200)(r.client(r.write).GetWatchWithResponse(t.Context(), watch, nil)).JSON200
	if shown.Status != "watching" || len(shown.DestinationIds) != 0 {
		t.Errorf("the watch %+v", shown)
	}
}

func TestADeliveryToADeletedDestinationCannotGoOutAgain(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	ids := r.oneOfEach(r.admin)
	if answer := r.do(r.write, http.MethodDelete, "/v1/destinations/"+ids["destination_id"], ""); answer.status != http.StatusNoContent {
		t.Fatalf("delete: %d %s", answer.status, answer.body)
	}
	again := "/v1/deliveries/" + ids["delivery_id"] + "/redeliver"
	for range 2 { // a refusal is not kept
		answer := r.do(r.write, http.MethodPost, again, "", key("k"))
		if answer.status != http.StatusConflict || !strings.Contains(answer.problem.Detail, "destination of this delivery was deleted") {
			t.Errorf("%d %s", answer.status, answer.body)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	c, ctx := r.client(r.admin), t.Context()
	made := ok[*client.CreateKeyResponse](t, 201)(c.CreateKeyWithResponse(ctx, nil,
		client.NewKey{Name: "ci", Scopes: []client.Scope{client.ScopeRead}})).JSON201
	if made.Key == nil || made.LastUsedAt != nil {
		t.Fatalf("made %+v", made)
	}
	reader := r.client(*made.Key)
	ok[*client.ListWatchesResponse](t, 200)(reader.ListWatchesWithResponse(ctx, nil))
	list := ok[*client.ListKeysResponse](t, 200)(c.ListKeysWithResponse(ctx, nil)).JSON200
	for _, shown := range list.Data {
		if shown.Key != nil {
			t.Error("a list shows a key's value")
		}
		if shown.ID == made.ID && shown.LastUsedAt == nil {
			t.Error("the use of a key leaves no trace")
		}
	}
	ok[*client.RevokeKeyResponse](t, 204)(c.RevokeKeyWithResponse(ctx, made.ID))
	ok[*client.ListWatchesResponse](t, 401)(reader.ListWatchesWithResponse(ctx, nil))
	if !strings.Contains(r.log.String(), `"tenant":"default"`) {
		t.Error("the log does not say whose request it was")
	}
}
