package storage_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/storage"
	"oprelay/storage/seal"
)

// replace gives the world's credential another token.
func (w *world) replace(t *testing.T, token string) {
	t.Helper()
	w.credential = must(w.UpdateCredential(t.Context(), w.tenant, w.credential.ID, storage.CredentialPatch{
		Secret: &storage.CredentialSecret{APIToken: seal.Secret(token)},
	}))(t)
	want(t, "read", must(w.Credential(t.Context(), w.tenant, w.credential.ID))(t), w.credential)
}

// refusal is what a poll tells that is refused, and has been since.
func refusal(poll storage.DuePoll, since time.Time) storage.PollResult {
	return storage.PollResult{
		RowID: poll.RowID, At: since, Next: since.Add(time.Hour), Problem: "HTTP 403: 9109 Invalid\x00",
		RefusedSince: since, RefusedReason: storage.ReasonCredentialRejected, CredentialRefused: true,
		CredentialVersion: poll.CredentialVersion,
	}
}

// testSecretReplaced: with a new secret the watches go on as if the old one had never been
// refused, whatever comes back of polls with that.
func testSecretReplaced(w *world) {
	t := w.t
	ctx := t.Context()
	watches := []storage.Watch{w.watch(t, "refused"), w.watch(t, "ended"), w.watch(t, "unknown")}
	polls := map[string]storage.DuePoll{}
	for _, p := range w.take(t) {
		polls[p.OperationID] = p
	}
	ended, unknown := refusal(polls["ended"], start), refusal(polls["unknown"], start)
	ended.End = storage.WatchUnobservable
	unknown.RefusedReason, unknown.CredentialRefused = storage.ReasonNotFound, false
	rejected := must(w.RecordRefusals(ctx, []storage.PollResult{refusal(polls["refused"], start), ended, unknown}, 0))(t)
	want(t, "rejected", len(rejected), 1)
	w.credential = must(w.Credential(ctx, w.tenant, w.credential.ID))(t)
	want(t, "last error", w.credential.LastError, "HTTP 403: 9109 Invalid\uFFFD")
	want(t, "refused since", w.credential.RefusedSince, start)
	old := w.pollGroup()

	name := "renamed"
	named := must(w.UpdateCredential(ctx, w.tenant, w.credential.ID, storage.CredentialPatch{Name: &name}))(t)
	want(t, "another name changes nothing else", named.Name+" "+named.Status, "renamed rejected")
	w.replace(t, "new token")
	want(t, "replaced", w.credential.Status+w.credential.LastError+w.credential.Name, "activerenamed")
	want(t, "refused since", w.credential.RefusedSince, time.Time{})
	want(t, "another budget", w.pollGroup() == old, false)
	want(t, "work in the old one", w.groupDue(t, old), time.Time{})
	secret := must(w.OpenCredential(ctx, w.credential.ID))(t)
	want(t, "secret", fmt.Sprint(string(secret.APIToken), secret.Version), "new token1")

	check(t, w.EndRejected(ctx, w.credential.ID)) // of who rejected it before
	for i, status := range []string{storage.WatchWatching, storage.WatchUnobservable, storage.WatchWatching} {
		want(t, watches[i].Operation.ID, w.reload(t, watches[i]).Status, status)
	}
	due := w.take(t) // not what is merely unknown, which waits as before
	want(t, "polled anew", len(due), 1)
	want(t, "polled anew", due[0].OperationID+due[0].RefusedReason, "refused")
	want(t, "its grace", due[0].RefusedSince, time.Time{})
	want(t, "with the secret", due[0].CredentialVersion, 1)
	want(t, "problem", w.reload(t, watches[0]).LastPollError, "")
	want(t, "of the unknown one", w.reload(t, watches[2]).LastPollError, "HTTP 403: 9109 Invalid\uFFFD")

	w.oldAnswers(t, polls["refused"], watches[0])
	w.end(t, polls["refused"], storage.WatchCompleted)
	want(t, "an end is an end, whoever was told", w.reload(t, watches[0]).Status, storage.WatchCompleted)
}

// oldAnswers come back of polls with the secret before.
func (w *world) oldAnswers(t *testing.T, old storage.DuePoll, watch storage.Watch) {
	t.Helper()
	refused, unclear := refusal(old, start), refusal(old, start)
	refused.End, unclear.CredentialRefused = storage.WatchUnobservable, false
	for what, late := range map[string]storage.PollResult{"refused": refused, "unclear": unclear} {
		check(t, w.RecordPolls(t.Context(), []storage.PollResult{late}))
		want(t, what+": the watch", w.reload(t, watch).Status, storage.WatchWatching)
		due := w.take(t)
		want(t, what+": polled anew", len(due), 1)
		want(t, what+": its grace", due[0].RefusedSince, time.Time{})
		want(t, what+": the credential", must(w.Credential(t.Context(), w.tenant, w.credential.ID))(t), w.credential)
	}
	due := w.take(t)[0]
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{refusal(due, start.Add(time.Minute))}))
	accepted := storage.PollResult{RowID: old.RowID, At: start, Next: start, Status: storage.OperationRunning, CredentialAccepted: true}
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{accepted}))
	want(t, "the old one accepted, the new one refused since",
		must(w.Credential(t.Context(), w.tenant, w.credential.ID))(t).RefusedSince, start.Add(time.Minute))
}

// testSecretReplacedRace: what is registered while a secret is replaced is charged to the
// budget of the new one, too.
func testSecretReplacedRace(w *world) {
	t := w.t
	other, raw := w.open(t), w.raw(t)
	for round := range 20 {
		together(t, 2, func(ctx context.Context, i int) error {
			if i == 0 {
				_, err := other.UpdateCredential(ctx, w.tenant, w.credential.ID, storage.CredentialPatch{
					Secret: &storage.CredentialSecret{APIToken: seal.Secret(strconv.Itoa(round))},
				})
				return err
			}
			_, err := w.Register(ctx, []storage.NewWatch{w.request(strconv.Itoa(round))}, nil)
			return err
		})
		var astray int
		check(t, raw.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM open_operations o JOIN credentials c ON c.id = o.credential_id
			WHERE o.budget_id <> c.budget_id`).Scan(&astray))
		want(t, "operations of another budget", astray, 0)
	}
	w.credential = must(w.Credential(t.Context(), w.tenant, w.credential.ID))(t)
	want(t, "to poll", len(w.take(t)), 20)
}

// testSecretReplacedBudgets: what was charged for a secret stays charged, however often
// it is replaced.
func testSecretReplacedBudgets(w *world) {
	t := w.t
	w.polledOnce(t, 10)
	w.clock.advance(time.Hour)
	take := func(what string, n int) {
		t.Helper()
		w.lease(t, w.pollGroup())
		taken, err := w.TakePolls(t.Context(), storage.TakePolls{
			Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 4, Per: time.Hour}, Max: 10,
		})
		check(t, err)
		want(t, what, len(taken.Polls), n)
		w.release(t, w.pollGroup())
	}
	take("the first token", 3) // one is kept for a first poll
	w.replace(t, "second")
	take("the second", 3)
	w.replace(t, "token")
	take("the first again", 0)
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
	refuse := func(at time.Time) (rejected []string) {
		t.Helper()
		return must(w.RecordRefusals(ctx, []storage.PollResult{{
			RowID: polls[0].RowID, At: at, Next: at, CredentialRefused: true, Problem: "HTTP 403",
			RefusedSince: at, RefusedReason: storage.ReasonCredentialRejected,
		}}, time.Hour))(t)
	}
	state := func() storage.Credential {
		t.Helper()
		return must(w.Credential(ctx, w.tenant, w.credential.ID))(t)
	}
	want(t, "rejected at once", len(refuse(start)), 0)
	want(t, "rejected soon", len(refuse(start.Add(time.Minute))), 0)
	want(t, "refused since", state().RefusedSince, start)
	check(t, w.RecordPolls(ctx, []storage.PollResult{{
		RowID: polls[1].RowID, At: start, Next: start, CredentialAccepted: true, Status: storage.OperationRunning,
	}}))
	want(t, "accepted again", state().RefusedSince, time.Time{})
	want(t, "too early", len(refuse(start.Add(time.Hour))), 0)
	wantError(t, "delete while in use", w.DeleteCredential(ctx, w.tenant, w.credential.ID), storage.ErrInUse)

	want(t, "rejected", fmt.Sprint(refuse(start.Add(2*time.Hour))), fmt.Sprint([]string{w.credential.ID}))
	want(t, "rejected again", len(refuse(start.Add(3*time.Hour))), 0)
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

	w.clock.advance(5 * time.Hour)
	w.watch(t, "again")
	w.end(t, w.take(t)[0], storage.WatchCompleted)
	want(t, "status when accepted after all", state().Status, storage.CredentialActive)
	check(t, w.DeleteCredential(ctx, w.tenant, w.credential.ID))
	_, err := w.OpenCredential(ctx, w.credential.ID)
	wantError(t, "open a deleted credential", err, storage.ErrNotFound)
	_, err = w.CreateWatches(ctx, []storage.NewWatch{w.request("1")})
	wantError(t, "watch with a deleted credential", err, storage.ErrNotFound)
}
