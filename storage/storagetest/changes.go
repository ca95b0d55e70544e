package storagetest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"oprelay/storage"
)

func testUpdateDestination(w *world) {
	t := w.t
	name, url, limit, headers := "new", "https://example.org/", 7, map[string]string{"B": "2", "A": "1"}
	d := must(w.UpdateDestination(t.Context(), w.tenant, w.destination.ID, storage.DestinationPatch{
		Name: &name, URL: &url, RateLimit: &limit, Headers: &headers,
	}))(t)
	got, secret, err := w.OpenDestination(t.Context(), w.destination.ID)
	check(t, err)
	want(t, "stored", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", d))
	want(t, "name, url, limit", got.Name+got.URL+strconv.Itoa(got.RateLimit), name+url+"7")
	want(t, "header names", fmt.Sprint(got.HeaderNames), "[A B]")
	want(t, "headers", fmt.Sprint(secret.Headers), fmt.Sprint(headers))
	want(t, "what the patch does not name", got.MaxInFlight, w.destination.MaxInFlight)
	want(t, "signing secret", secret.Signing[0].Value, "whsec_one")

	bot := w.newBot(t)
	want(t, "bot", bot.Bot, true)
	token, channel := storage.Secret("xoxb-2"), "C2"
	must(w.UpdateDestination(t.Context(), w.tenant, bot.ID, storage.DestinationPatch{BotToken: &token, Channel: &channel}))(t)
	got, secret, err = w.OpenDestination(t.Context(), bot.ID)
	check(t, err)
	want(t, "channel", got.Channel, "C2")
	want(t, "token", string(secret.BotToken), "xoxb-2")
}

func testRotateSecret(w *world) {
	t := w.t
	id := w.destination.ID
	signing := func() string {
		t.Helper()
		_, secret, err := w.OpenDestination(t.Context(), id)
		check(t, err)
		var values []string
		for _, s := range secret.Signing {
			values = append(values, string(s.Value))
		}
		return strings.Join(values, " ")
	}
	check(t, w.RotateSecret(t.Context(), w.tenant, id, "whsec_two", time.Hour))
	want(t, "while they overlap", signing(), "whsec_two whsec_one")
	w.clock.advance(30 * time.Minute)
	check(t, w.RotateSecret(t.Context(), w.tenant, id, "whsec_three", time.Hour))
	want(t, "while three overlap", signing(), "whsec_three whsec_two whsec_one")
	w.clock.advance(30 * time.Minute)
	want(t, "when the first is over", signing(), "whsec_three whsec_two")
	check(t, w.RotateSecret(t.Context(), w.tenant, id, "whsec_four", time.Minute))
	want(t, "with a shorter overlap", signing(), "whsec_four whsec_three whsec_two")
	w.clock.advance(time.Minute)
	want(t, "when that is over", signing(), "whsec_four")
	check(t, w.RotateSecret(t.Context(), w.tenant, id, "whsec_five", time.Hour))
	check(t, w.RotateSecret(t.Context(), w.tenant, id, "whsec_six", 0))
	want(t, "without an overlap", signing(), "whsec_six")
}

func testCredentialRefused(w *world) {
	t := w.t
	ctx := t.Context()
	alerts := w.newWebhook(t, w.tenant, true)
	var watches []storage.Watch
	for i := range 3 {
		watches = append(watches, w.watch(t, strconv.Itoa(i)))
	}
	polls := w.take(t)
	refuse := func(at time.Time) {
		t.Helper()
		check(t, w.RecordPolls(ctx, []storage.PollResult{{
			RowID: polls[0].RowID, At: at, Next: at, CredentialRefused: true, Problem: "HTTP 403",
			RefusedSince: at, RefusedReason: storage.ReasonCredentialRejected,
		}}))
	}
	state := func() storage.Credential {
		t.Helper()
		return must(w.Credential(ctx, w.tenant, w.credential.ID))(t)
	}
	refuse(start)
	refuse(start.Add(time.Minute))
	want(t, "refused since", state().RefusedSince, start)
	check(t, w.RecordPolls(ctx, []storage.PollResult{{
		RowID: polls[1].RowID, At: start, Next: start, CredentialAccepted: true, Status: storage.OperationRunning,
	}}))
	want(t, "accepted again", state().RefusedSince, time.Time{})
	refuse(start.Add(time.Hour))
	want(t, "too early", must(w.RejectCredential(ctx, w.credential.ID, start))(t), false)
	wantError(t, "delete while in use", w.DeleteCredential(ctx, w.tenant, w.credential.ID), storage.ErrInUse)

	want(t, "rejected", must(w.RejectCredential(ctx, w.credential.ID, start.Add(time.Hour)))(t), true)
	want(t, "rejected again", must(w.RejectCredential(ctx, w.credential.ID, start.Add(time.Hour)))(t), false)
	want(t, "status", state().Status, storage.CredentialRejected)
	check(t, w.EndRejected(ctx, w.credential.ID))
	for _, watch := range watches {
		got := w.reload(t, watch)
		want(t, "watch", got.Status, storage.WatchUnobservable)
		event := must(w.Event(ctx, w.tenant, got.EventID))(t)
		want(t, "reason", strings.Contains(string(event.Body), `"reason":"credential_rejected"`), true)
	}
	alert := w.deliveries(t, alerts)
	want(t, "alerts", len(alert), 1)
	want(t, "alert", string(alert[0].Body), `{"type":"credential.rejected","timestamp":"2026-11-23T10:00:00.123456Z",`+
		`"data":{"credential_id":"`+w.credential.ID+`","name":"lists","refused_since":"2026-11-23T11:00:00.123456Z",`+
		`"rejected_at":"2026-11-23T10:00:00.123456Z"}}`)
	want(t, "polled still", len(w.take(t)), 0)

	w.watch(t, "again")
	w.end(t, w.take(t)[0], storage.WatchCompleted)
	want(t, "status when accepted after all", state().Status, storage.CredentialActive)
	check(t, w.DeleteCredential(ctx, w.tenant, w.credential.ID))
	_, err := w.OpenCredential(ctx, w.credential.ID)
	wantError(t, "open a deleted credential", err, storage.ErrNotFound)
	_, err = w.CreateWatches(ctx, []storage.NewWatch{w.request("1")})
	wantError(t, "watch with a deleted credential", err, storage.ErrNotFound)
}
