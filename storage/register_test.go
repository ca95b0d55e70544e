package storage

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
)

// registry is a Store with what a watch refers to.
type registry struct {
	*Store

	wanted NewWatch
}

func newRegistry(t *testing.T, url string) registry {
	t.Helper()
	keys, err := seal.ParseKeyring(seal.NewKey())
	noError(t, err)
	store, err := Open(t.Context(), Config{URL: url, Keys: keys})
	noError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	_, err = store.Migrate(t.Context())
	noError(t, err)
	tenant, err := store.EnsureTenant(t.Context(), "default")
	noError(t, err)
	credential, err := store.CreateCredential(t.Context(), NewCredential{TenantID: tenant.ID, Upstream: "cloudflare", Name: "c"})
	noError(t, err)
	destination, err := store.CreateDestination(t.Context(), NewDestination{TenantID: tenant.ID, Kind: "webhook", Name: "d"})
	noError(t, err)
	return registry{store, NewWatch{
		TenantID: tenant.ID, CredentialID: credential.ID, DestinationIDs: []string{destination.ID},
		Source: "cloudflare.lists", Upstream: "cloudflare", Params: map[string]string{"account_id": "account"}, OperationID: "1", Timeout: time.Hour,
	}}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// registrations makes one of each change to the wanted watch.
func (r registry) registrations(changes ...func(*registration)) []*contribution[*registration] {
	var all []*contribution[*registration]
	for _, change := range changes {
		one := &registration{requested: []NewWatch{r.wanted}}
		change(one)
		all = append(all, &contribution[*registration]{what: one, rows: 1, result: make(chan error, 1)})
	}
	return all
}

func (r registry) watches(t *testing.T) int {
	t.Helper()
	list, err := r.Watches(t.Context(), WatchFilter{TenantID: r.wanted.TenantID}, Page{Limit: 100})
	noError(t, err)
	return len(list.Data)
}

func onEach(t *testing.T, test func(t *testing.T, r registry)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, newRegistry(t, "sqlite:"+filepath.Join(t.TempDir(), "relay.db")))
	})
	t.Run("Postgres", func(t *testing.T) {
		t.Parallel()
		test(t, newRegistry(t, testenv.Postgres(t)))
	})
}

// Of registrations that share a commit each succeeds or fails for itself.
func TestRegistrationsThatShareACommitFailAlone(t *testing.T) {
	t.Parallel()
	errKeep := errors.New("cannot be kept")
	good := func(*registration) {}
	foreign := func(r *registration) { r.requested[0].TenantID = "tenant_other" }
	gone := func(r *registration) { r.requested[0].DestinationIDs = []string{"destination_gone"} }
	unkept := func(r *registration) { r.saveAnswer = func(*Store, []Watch) error { return errKeep } }
	panicking := func(r *registration) { r.saveAnswer = func(*Store, []Watch) error { panic("a fault") } }
	onEach(t, func(t *testing.T, r registry) {
		t.Helper()
		group := r.registrations(good, foreign, gone, unkept, panicking, good)
		abandoned := group[len(group)-1]
		abandoned.taken.Store(true)
		all := wanted(append(r.registrations(good), group...))
		r.db.registrations.writeAll(t.Context(), r.Store, all)
		if err := <-group[0].result; err != nil || len(group[0].what.made) != 1 || group[0].what.made[0].Operation.ID != "1" {
			t.Errorf("the good one: %v, %v", group[0].what.made, err)
		}
		for i, want := range map[int]error{1: ErrNotFound, 2: ErrNotFound, 3: errKeep} {
			if err := <-group[i].result; !errors.Is(err, want) {
				t.Errorf("%d: %v, want %v", i, err, want)
			}
		}
		if <-group[4].result == nil {
			t.Error("a panic is no success")
		}
		if n := r.watches(t); n != 2 {
			t.Errorf("%d watches were made, want those of the two good ones", n)
		}
	})
}

// What goes with a registration is kept in its transaction, and seen there.
func TestWhatIsKeptWithARegistrationIsKeptWithItAlone(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, r registry) {
		t.Helper()
		key := IdempotencyKey{TenantID: r.wanted.TenantID, Key: "k", Fingerprint: []byte("f")}
		keep := func(tx *Store, made []Watch) error {
			return tx.KeepAnswer(t.Context(), key, Answer{Location: made[0].ID})
		}
		if _, err := r.Register(t.Context(), []NewWatch{r.wanted}, keep); !errors.Is(err, ErrIdempotencyRunning) {
			t.Errorf("without a reservation: %v", err)
		}
		if n := r.watches(t); n != 0 {
			t.Errorf("%d watches without their answer", n)
		}
		_, err := r.ReserveAnswer(t.Context(), key)
		noError(t, err)
		made, err := r.Register(t.Context(), []NewWatch{r.wanted}, keep)
		noError(t, err)
		answer, err := r.ReserveAnswer(t.Context(), key)
		noError(t, err)
		if answer == nil || answer.Location != made[0].ID {
			t.Errorf("kept %v, made %v", answer, made)
		}
	})
}

// Of registrations that share a commit each keeps its own answer, and one whose reservation was
// taken over is not made.
func TestAnswersThatShareACommit(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, r registry) {
		t.Helper()
		keyOf := func(name string) IdempotencyKey {
			return IdempotencyKey{TenantID: r.wanted.TenantID, Key: name, Fingerprint: []byte("f")}
		}
		keyed := func(name string) func(*registration) {
			return func(one *registration) {
				one.saveAnswer = func(tx *Store, made []Watch) error {
					return tx.KeepAnswer(t.Context(), keyOf(name), Answer{Location: made[0].ID})
				}
			}
		}
		for _, name := range []string{"a", "b", "c", "d"} {
			_, err := r.ReserveAnswer(t.Context(), keyOf(name))
			noError(t, err)
		}
		own, err := r.registerAll(t.Context(), []*registration{ // one transaction
			r.registrations(keyed("d"))[0].what, r.registrations(keyed("c"))[0].what,
		})
		noError(t, errors.Join(append(own, err)...))
		all := wanted(r.registrations(keyed("a"), keyed("lost"), keyed("b")))
		r.db.registrations.writeAll(t.Context(), r.Store, all)
		for i, name := range []string{"a", "lost", "b"} {
			err := <-all[i].result
			if name == "lost" {
				if !errors.Is(err, ErrIdempotencyRunning) {
					t.Errorf("without a reservation: %v", err)
				}
				continue
			}
			noError(t, err)
			answer, err := r.ReserveAnswer(t.Context(), keyOf(name))
			noError(t, err)
			if answer == nil || answer.Location != all[i].what.made[0].ID {
				t.Errorf("%s: kept %v, made %v", name, answer, all[i].what.made)
			}
		}
		if n := r.watches(t); n != 4 {
			t.Errorf("%d watches were made, want those of the four whose answers are kept", n)
		}
	})
}

// A caller that gives up before its turn has registered nothing.
func TestAnAbandonedRegistrationIsNotMade(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, r registry) {
		t.Helper()
		ctx, hangUp := context.WithCancel(t.Context())
		hangUp()
		begun, end := make(chan struct{}), make(chan struct{})
		first := make(chan error)
		go func() {
			_, err := r.Register(t.Context(), []NewWatch{r.wanted}, func(*Store, []Watch) error {
				close(begun)
				<-end
				return nil
			})
			first <- err
		}()
		<-begun
		if _, err := r.Register(ctx, []NewWatch{r.wanted}, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("abandoned: %v", err)
		}
		close(end)
		noError(t, <-first)
		if _, err := r.Register(t.Context(), []NewWatch{r.wanted}, nil); err != nil { // after whatever was waiting
			t.Error(err)
		}
		if n := r.watches(t); n != 2 {
			t.Errorf("%d watches, want 2", n)
		}
	})
}
