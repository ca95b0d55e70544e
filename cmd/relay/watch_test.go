package main

import (
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"oprelay/api/client"
	"oprelay/jobs/cloudflare/simulator"
)

// relay watch asks for what its flags say. What it leaves out it takes only where there is but one; else it says
// what there is.
func TestWatchRegisters(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	operation := s.add(simulator.Plan{End: simulator.EndFailed})
	credential := s.credential(t, "token")
	run := []string{"watch", "7", "--source", "github.run", "--param", "owner=octocat"}
	mention(t, call(t.Context(), s.user(), run...).stderr, "no credential for github")
	github, err := s.api.CreateCredentialWithResponse(t.Context(), nil, client.NewCredential{
		Name: "github", Upstream: new("github"), APIToken: new("token"),
	})
	want(t, http.StatusCreated, err, github)
	mention(t, call(t.Context(), s.user(), run...).stderr, "--param repo: is required") // nothing of the credential
	missing := call(t.Context(), s.user(), "watch", operation)
	if missing.code != exitUsage || missing.stdout != "" {
		t.Errorf("without an account: %+v", missing)
	}
	mention(t, missing.stderr, "--account")

	destination := s.webhook(t)
	made := call(t.Context(), s.user(), "watch", operation, "--param", "account_id="+testAccount, "--name", "deploy 42",
		"--metadata", "deploy=42", "--metadata", "by=a=b,c", "--destination", destination, "--timeout", "90m", "--wait", "--json")
	var watch client.Watch
	if err := json.Unmarshal([]byte(made.stdout), &watch); err != nil || made.code != exitError {
		t.Fatalf("%v, %+v", err, made)
	}
	if watch.CredentialID != credential || *watch.Name != "deploy 42" || watch.Metadata["by"] != "a=b,c" || watch.DestinationIds[0] != destination ||
		watch.ExpiresAt.Sub(watch.CreatedAt).Minutes() != 90 || *watch.Operation.AccountID != testAccount || watch.Status != client.WatchStatusFailed {
		t.Errorf("the watch is %s", pretty(watch))
	}
	mention(t, made.stderr, "Watching deploy 42 ("+operation+" of cloudflare.lists)\n", "failed after ")

	again := call(t.Context(), s.user(), "watch", operation, "--account", testAccount, "--wait")
	if id := strings.TrimSpace(again.stdout); again.code != exitError || s.look(t, id).Status != client.WatchStatusFailed {
		t.Errorf("%+v", again)
	}
	registered := call(t.Context(), s.user(), "watch", operation, "--account", testAccount, "--json")
	if err := json.Unmarshal([]byte(registered.stdout), &watch); err != nil || registered.code != exitOK {
		t.Errorf("%v, %+v", err, registered)
	}

	other := s.credential(t, "another-token")
	ambiguous := call(t.Context(), s.user(), "watch", operation, "--account", testAccount)
	if ambiguous.code != exitUsage || ambiguous.stdout != "" {
		t.Errorf("with two credentials: %+v", ambiguous)
	}
	mention(t, ambiguous.stderr, "--credential", credential, other, "(active)")
	mention(t, call(t.Context(), s.user(), "watch", operation, "--credential", other).stderr, "--account", testAccount)
}

// A registration whose answer was lost is repeated, with the same Idempotency-Key, and makes one watch.
func TestWatchIsRegisteredOnce(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	lossy := newLossy(t, "http://"+s.server.address)
	credential := s.credential(t, "token")
	made := call(t.Context(), s.user().with("RELAY_URL", lossy), "watch", s.add(simulator.Plan{}), "--account", testAccount, "--credential", credential)
	if made.code != exitOK {
		t.Fatalf("%+v", made)
	}
	mention(t, made.stderr, "does not answer", "answers again")
	found, err := s.api.ListWatchesWithResponse(t.Context(), nil)
	want200(t, err, found)
	if len(found.JSON200.Data) != 1 || found.JSON200.Data[0].ID != strings.TrimSpace(made.stdout) {
		t.Errorf("%s registered %d watches", made.stdout, len(found.JSON200.Data))
	}
}

// newLossy is the URL of a proxy before an API that loses the first answer.
func newLossy(t *testing.T, to string) string {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	var lost atomic.Bool
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(*http.Response) error {
		if lost.CompareAndSwap(false, true) {
			panic(http.ErrAbortHandler)
		}
		return nil
	}
	return serve(t, proxy)
}
