package jobs

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/jobs/cloudflare/simulator"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// Why a poll got no answer is shown in words that name no address, and logged in full.
func TestAddressesAreForTheLog(t *testing.T) {
	t.Parallel()
	r := newRelay(t, sqliteBackend())
	log := &lines{changed: make(chan struct{}, 1)}
	r.poll.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.start()
	r.add("op", simulator.Plan{Misbehaviour: simulator.Misbehaviour{Name: "reset"}})
	watch := r.watch(r.credential("token"), []string{"op"}, r.webhook(nil).id)[0]
	eventually(t, func() bool {
		got, err := r.store.Watch(t.Context(), r.tenant, watch.ID)
		return err == nil && got.LastPollError == "no answer: connection reset by peer"
	}, nil, "the words for a reset connection")
	for _, line := range log.holding("a poll got no whole answer") {
		if strings.Contains(line, "->127.0.0.1:") && strings.Contains(line, "operation_id=op") {
			return
		}
	}
	t.Errorf("the log does not say between whom: %v", log.holding("poll"))
}

func (r *relay) replaceSecret(credential, token string) {
	r.t.Helper()
	_, err := r.store.UpdateCredential(r.t.Context(), r.tenant, credential, storage.CredentialPatch{
		Secret: &storage.CredentialSecret{APIToken: seal.Secret(token)},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// A refused token is replaced: its watches go on with the new one in every process, and
// the old one is not used again.
func TestReplacedSecret(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.poll.Policy.UnobservableAfter = time.Hour
			r.start()
			if b.name == postgresBackend().name {
				r.start()
			}
			old, next := simulator.TokenFingerprint("old"), simulator.TokenFingerprint("new")
			if err := r.upstream.AddFault(simulator.Fault{Credential: old, Misbehaviour: simulator.Misbehaviour{Name: "unauthorized"}}); err != nil {
				t.Fatal(err)
			}
			for _, id := range operations("op", 5) {
				r.add(id, simulator.Plan{RunningFor: time.Second})
			}
			credential, to := r.credential("old"), r.webhook(nil)
			watches := r.watch(credential, operations("op", 5), to.id)
			eventually(t, func() bool {
				c, err := r.store.Credential(t.Context(), r.tenant, credential)
				return err == nil && !c.RefusedSince.IsZero() && strings.Contains(c.LastError, "HTTP 401")
			}, nil, "a refusal")
			r.replaceSecret(credential, "new")
			for _, w := range watches {
				if w = r.ended(w); w.Status != storage.WatchCompleted {
					t.Errorf("%+v", w)
				}
			}
			asked := r.upstream.Requests()
			first := slices.IndexFunc(asked, func(q simulator.Request) bool { return q.Credential == next })
			late := slices.DeleteFunc(asked[first:], func(q simulator.Request) bool { return q.Credential == next })
			if len(late) > len(watches) { // a poll of each may have been claimed before
				t.Errorf("the old token was used %d times after it was replaced", len(late))
			}
			if c, err := r.store.Credential(t.Context(), r.tenant, credential); err != nil || !c.RefusedSince.IsZero() || c.LastError != "" {
				t.Errorf("%v: %+v", err, c)
			}
		})
	}
}
