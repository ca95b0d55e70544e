package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/storage"
)

// poll takes the one poll that is due with a credential's budget.
func (r *relay) poll(credentialID string) storage.DuePoll {
	r.t.Helper()
	credential, err := r.store.Credential(r.t.Context(), r.tenant.ID, credentialID)
	must(r.t, err)
	group := storage.Group{Kind: storage.PollGroup, ID: credential.BudgetID}
	leased, err := r.store.LeaseGroup(r.t.Context(), group, "test", time.Hour)
	if must(r.t, err); !leased {
		r.t.Fatal("nothing is due")
	}
	taken, err := r.store.TakePolls(r.t.Context(), storage.TakePolls{
		Group: group.ID, Owner: "test", Budget: storage.Budget{N: 9, Per: time.Hour}, Max: 9,
	})
	if must(r.t, err); len(taken.Polls) != 1 {
		r.t.Fatalf("%d polls are due", len(taken.Polls))
	}
	_, err = r.store.ReleaseGroup(r.t.Context(), group, "test", storage.Pause{})
	must(r.t, err)
	return taken.Polls[0]
}

func TestACredentialsLife(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	c, ctx := r.client(r.write), t.Context()
	cloudflare := "cloudflare"
	made := ok[*client.CreateCredentialResponse](t, 201)(c.CreateCredentialWithResponse(ctx, nil,
		client.NewCredential{Name: "cf", Upstream: &cloudflare, APIToken: new("old")})).JSON201
	id := made.ID
	shown := func() client.Credential {
		return *ok[*client.GetCredentialResponse](t, 200)(c.GetCredentialWithResponse(ctx, id)).JSON200
	}
	expect := func(what string, got client.Credential, status client.CredentialStatus, refused bool, lastError string) {
		t.Helper()
		words := ""
		if got.LastError != nil {
			words = *got.LastError
		}
		if got.Status != status || (got.RefusedSince != nil) != refused || words != lastError || got.Upstream != cloudflare {
			t.Errorf("%s: %+v", what, got)
		}
	}
	expect("made", *made, client.CredentialActive, false, "")
	watch := r.watch(r.write, id, r.webhook(r.write))
	refused := storage.PollResult{
		RowID: r.poll(id).RowID, At: r.store.Steady(), Next: r.store.Steady(), Problem: "HTTP 403: 9109 Invalid access token",
		RefusedSince: r.store.Steady(), RefusedReason: storage.ReasonCredentialRejected, CredentialRefused: true,
	}
	must(t, r.store.RecordPolls(ctx, []storage.PollResult{refused}))
	expect("refused", shown(), client.CredentialRefused, true, refused.Problem)
	if since := shown().RefusedSince; !since.Equal(r.clock.Now()) {
		t.Errorf("refused since %v", since)
	}
	_, err := r.store.RecordRefusals(ctx, []storage.PollResult{refused}, 0)
	must(t, err)
	expect("rejected", shown(), client.CredentialRejected, true, refused.Problem)

	patched := ok[*client.UpdateCredentialResponse](t, 200)(c.UpdateCredentialWithResponse(ctx, id,
		client.CredentialPatch{Name: new("new name")})).JSON200
	expect("renamed", *patched, client.CredentialRejected, true, refused.Problem)
	patched = ok[*client.UpdateCredentialResponse](t, 200)(c.UpdateCredentialWithResponse(ctx, id,
		client.CredentialPatch{Email: new("ops@example.com"), APIKey: new("k")})).JSON200
	expect("replaced", *patched, client.CredentialActive, false, "")
	if patched.Auth != client.AuthAPIKey || patched.Name != "new name" {
		t.Errorf("replaced: %+v", patched)
	}
	listed := ok[*client.ListCredentialsResponse](t, 200)(c.ListCredentialsWithResponse(ctx, nil)).JSON200.Data
	if len(listed) != 1 || listed[0] != *patched {
		t.Errorf("listed: %+v", listed)
	}
	secret, err := r.store.OpenCredential(ctx, id)
	if must(t, err); secret.Email != "ops@example.com" || secret.APIKey != "k" || secret.APIToken != "" {
		t.Errorf("kept for %q", secret.Email)
	}
	if due := r.poll(id); !due.RefusedSince.IsZero() {
		t.Errorf("polled with it: %+v", due)
	}
	if answer := r.do(r.write, http.MethodDelete, "/v1/credentials/"+id, ""); answer.status != http.StatusConflict ||
		!strings.Contains(answer.problem.Detail, "name it: 1") {
		t.Errorf("deleted in use: %d %s", answer.status, answer.body)
	}
	if got := ok[*client.GetWatchResponse](t, 200)(c.GetWatchWithResponse(ctx, watch, nil)).JSON200; got.Status != "watching" {
		t.Errorf("the watch %+v", got)
	}
}

func TestACredentialsNewSecretIsOneOfTwoForms(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	id := r.credential(r.write)
	for body, pointers := range map[string][]string{
		`{"api_token":"t","email":"a@b.c","api_key":"k"}`: {"/api_key", "/email"},
		`{"api_token":"t","email":"a@b.c"}`:               {"/email"},
		`{"api_token":"t","api_key":"k"}`:                 {"/api_key"},
		`{"email":"a@b.c"}`:                               {"/api_key"},
		`{"api_key":"k"}`:                                 {"/email"},
		`{"api_key":"k y","name":""}`:                     {"/api_key", "/email", "/name"},
		`{"api_token":null}`:                              {"/api_token"},
		`{"upstream":"cloudflare"}`:                       {"/upstream"},
		`{"status":"active"}`:                             {"/status"},
	} {
		answer := r.do(r.write, http.MethodPatch, "/v1/credentials/"+id, body)
		got := answer.pointers()
		slices.Sort(got)
		if answer.status != http.StatusUnprocessableEntity || !slices.Equal(got, pointers) {
			t.Errorf("%s: %d %s", body, answer.status, answer.body)
		}
	}
	if answer := r.do(r.write, http.MethodPatch, "/v1/credentials/"+id, `{}`); answer.status != http.StatusOK {
		t.Errorf("nothing: %d %s", answer.status, answer.body)
	}
	if secret, err := r.store.OpenCredential(t.Context(), id); err != nil || secret.Version != 0 {
		t.Errorf("%v: changed %d times", err, secret.Version)
	}
}
