package poll

import (
	"log/slog"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/jobs/source"
	"oprelay/notifier"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// fixture is a store of one tenant.
type fixture struct {
	t      *testing.T
	store  *storage.Store
	tenant string
}

func newFixture(t *testing.T, url string) *fixture {
	t.Helper()
	keys, err := seal.ParseKeyring(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(t.Context(), storage.Config{URL: url, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	tenant, err := store.EnsureTenant(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t, store, tenant.ID}
}

func (f *fixture) poller(client Client) *Poller {
	return New(Config{
		Store: f.store, Client: client, Sources: sources(f.t), Policy: Policy{UnobservableAfter: 15 * time.Minute},
		Budget: storage.Budget{N: 1, Per: time.Hour}, Egress: storage.Budget{N: 1000, Per: time.Second},
		Logger: slog.New(slog.DiscardHandler),
	})
}

// lockOut is what Cloudflare's definition has for park.
const lockOut = 5 * time.Minute

func sources(t *testing.T) *source.Set {
	t.Helper()
	set, err := source.Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// watch watches an operation with a credential of its own.
func (f *fixture) watch(token, operation string) (credential string) {
	f.t.Helper()
	c, err := f.store.CreateCredential(f.t.Context(), storage.NewCredential{
		TenantID: f.tenant, Upstream: "cloudflare", Name: token, Secret: storage.CredentialSecret{APIToken: seal.Secret(token)},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	d, err := f.store.CreateDestination(f.t.Context(), storage.NewDestination{
		TenantID: f.tenant, Kind: storage.KindWebhook, Name: operation, URL: "https://receiver.example", MaxInFlight: 1,
		Secret: storage.DestinationSecret{Signing: []storage.SigningSecret{{Value: seal.Secret(notifier.NewSecret())}}},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.store.CreateWatches(f.t.Context(), []storage.NewWatch{{
		TenantID: f.tenant, Source: "cloudflare.lists", Upstream: "cloudflare", Params: map[string]string{"account_id": "023e105f4ecef8ad9ca31a8372d0c353"}, OperationID: operation, CredentialID: c.ID,
		DestinationIDs: []string{d.ID}, Events: []string{storage.EventOperationCompleted}, Timeout: time.Hour,
	}}); err != nil {
		f.t.Fatal(err)
	}
	return c.ID
}

// take leases the group and takes its only poll.
func (f *fixture) take(g storage.Group) row {
	f.t.Helper()
	if ok, err := f.store.LeaseGroup(f.t.Context(), g, "me", time.Minute); err != nil || !ok {
		f.t.Fatalf("%v: leased: %v", err, ok)
	}
	taken, err := f.store.TakePolls(f.t.Context(), storage.TakePolls{
		Group: g.ID, Owner: "me", Budget: storage.Budget{N: 1, Per: time.Hour}, Max: 1,
	})
	if err != nil || len(taken.Polls) != 1 {
		f.t.Fatalf("%v: %d polls are due", err, len(taken.Polls))
	}
	return row{taken.Polls[0]}
}

// taken is the one poll that is due, and its group, whose lease is held.
func (f *fixture) taken() (group string, due row) {
	f.t.Helper()
	groups, err := f.store.DueGroups(f.t.Context(), 1)
	if err != nil || len(groups) != 1 {
		f.t.Fatalf("%v: %d groups are due", err, len(groups))
	}
	return groups[0].ID, f.take(groups[0])
}

// lock has a session of its own run the query and hold what that locks, until it is
// released.
func lock(t *testing.T, url, query string) (release func()) {
	t.Helper()
	const sleeping = ` FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = testenv.Query(t.Context(), url, query+`; SELECT pg_sleep(600)`) // it is terminated
	}()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for n, err := "", error(nil); n != "1"; n, err = testenv.Query(t.Context(), url, `SELECT count(*)`+sleeping) {
		if err != nil {
			t.Fatal(err)
		}
		<-ticker.C
	}
	return func() {
		testenv.Execute(t, url, `SELECT pg_terminate_backend(pid)`+sleeping)
		<-ended
	}
}
