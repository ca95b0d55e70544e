package storage_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"oprelay/storage"
	"oprelay/storage/seal"
)

func testKeys(w *world) {
	t := w.t
	want(t, "keys at first", must(w.HasKeys(t.Context()))(t), false)
	key, secret, err := w.CreateKey(t.Context(), storage.NewAPIKey{
		TenantID: w.tenant, Name: "ci", Scopes: []storage.Scope{storage.ScopeRead, storage.ScopeWrite},
	})
	check(t, err)
	want(t, "prefix", strings.HasPrefix(string(secret), "relay_"), true)
	want(t, "scopes", fmt.Sprint(key.Scopes), "[read write]")
	want(t, "tenant", key.TenantName, "acme")
	got := must(w.Authenticate(t.Context(), string(secret)))(t)
	want(t, "key", got.ID, key.ID)
	want(t, "listed", len(must(w.Keys(t.Context(), w.tenant, storage.Page{Limit: 5}))(t).Data), 1)
	want(t, "listed for the operator", len(must(w.AllKeys(t.Context()))(t)), 1)
	_, err = w.Authenticate(t.Context(), string(secret)+"x")
	wantError(t, "another secret", err, storage.ErrNotFound)
	check(t, w.RevokeKey(t.Context(), "", key.ID))
	wantError(t, "revoked again", w.RevokeKey(t.Context(), w.tenant, key.ID), storage.ErrNotFound)
	_, err = w.Authenticate(t.Context(), string(secret))
	wantError(t, "a revoked key", err, storage.ErrNotFound)
	want(t, "listed when revoked", len(must(w.AllKeys(t.Context()))(t)), 0)
	want(t, "keys ever", must(w.HasKeys(t.Context()))(t), true)
	_, _, err = w.CreateKey(t.Context(), storage.NewAPIKey{TenantID: "tenant_none", Name: "x"})
	wantError(t, "key of no tenant", err, storage.ErrNotFound)
	want(t, "the tenant of that name", must(w.EnsureTenant(t.Context(), "acme"))(t).ID, w.tenant)
}

func testAuthenticate(w *world) {
	t := w.t
	_, secret, err := w.CreateKey(t.Context(), storage.NewAPIKey{TenantID: w.tenant, Name: "ci", Scopes: []storage.Scope{"read"}})
	check(t, err)
	for _, step := range []struct{ after, used time.Duration }{{0, 0}, {59 * time.Second, 0}, {time.Second, time.Minute}} {
		w.clock.advance(step.after)
		must(w.Authenticate(t.Context(), string(secret)))(t)
		want(t, "last used", must(w.AllKeys(t.Context()))(t)[0].LastUsedAt, start.Add(step.used))
	}
}

// testTenancy: for every method, another tenant's id does not exist.
func testTenancy(w *world) {
	t := w.t
	ctx := t.Context()
	d := w.complete(t, "1")
	watch := w.watch(t, "2")
	key, _, err := w.CreateKey(ctx, storage.NewAPIKey{TenantID: w.tenant, Name: "ci", Scopes: []storage.Scope{"read"}})
	check(t, err)
	other := must(w.EnsureTenant(ctx, "other"))(t).ID
	own := w.newCredential(t, other, "token").ID
	name, recovery := "mine now", storage.Recovery{TenantID: other, DestinationID: w.destination.ID, Since: start}
	for what, call := range map[string]func() error{
		"Credential": func() error { _, err := w.Credential(ctx, other, w.credential.ID); return err },
		"UpdateCredential": func() error {
			_, err := w.UpdateCredential(ctx, other, w.credential.ID, storage.CredentialPatch{})
			return err
		},
		"DeleteCredential":  func() error { return w.DeleteCredential(ctx, other, w.credential.ID) },
		"Destination":       func() error { _, err := w.Destination(ctx, other, w.destination.ID); return err },
		"DeleteDestination": func() error { return w.DeleteDestination(ctx, other, w.destination.ID) },
		"ForceDelete":       func() error { return w.ForceDeleteDestination(ctx, other, w.destination.ID) },
		"RotateSecret":      func() error { return w.RotateSecret(ctx, other, w.destination.ID, "whsec_x", 0) },
		"EnableDestination": func() error { _, err := w.EnableDestination(ctx, other, w.destination.ID); return err },
		"TestDestination":   func() error { _, err := w.TestDestination(ctx, other, w.destination.ID); return err },
		"Recover":           func() error { _, err := w.Recover(ctx, recovery, nil); return err },
		"Watch":             func() error { _, err := w.Watch(ctx, other, watch.ID); return err },
		"CancelWatch":       func() error { _, err := w.CancelWatch(ctx, other, watch.ID); return err },
		"Event":             func() error { _, err := w.Event(ctx, other, d.EventID); return err },
		"Events": func() error {
			_, err := w.Events(ctx, storage.FeedFilter{TenantID: other, After: d.EventID}, 5)
			return err
		},
		"Delivery":           func() error { _, _, err := w.Delivery(ctx, other, d.ID); return err },
		"Redeliver":          func() error { _, err := w.Redeliver(ctx, other, d.ID); return err },
		"RevokeKey":          func() error { return w.RevokeKey(ctx, other, key.ID) },
		"DisableDestination": func() error { _, err := w.DisableDestination(ctx, other, w.destination.ID, "gone"); return err },
		"UpdateDestination": func() error {
			_, err := w.UpdateDestination(ctx, other, w.destination.ID, storage.DestinationPatch{Name: &name})
			return err
		},
		"CreateWatches, all": func() error {
			r := w.request("3")
			r.TenantID = other
			_, err := w.CreateWatches(ctx, []storage.NewWatch{r})
			return err
		},
		"CreateWatches, destination": func() error {
			r := w.request("3")
			r.TenantID, r.CredentialID = other, own
			_, err := w.CreateWatches(ctx, []storage.NewWatch{r})
			return err
		},
	} {
		wantError(t, what, call(), storage.ErrNotFound)
	}
	for what, n := range map[string]int{
		"Destinations": len(must(w.Destinations(ctx, other, storage.Page{Limit: 5}))(t).Data),
		"Watches":      len(must(w.Watches(ctx, storage.WatchFilter{TenantID: other}, storage.Page{Limit: 5}))(t).Data),
		"Deliveries":   len(must(w.Deliveries(ctx, storage.DeliveryFilter{TenantID: other}, storage.Page{Limit: 5}))(t).Data),
		"Keys":         len(must(w.Keys(ctx, other, storage.Page{Limit: 5}))(t).Data),
		"no tenant":    len(must(w.Watches(ctx, storage.WatchFilter{}, storage.Page{Limit: 5}))(t).Data),
		"feed":         len(w.feed(t, other)),
		"credentials":  len(must(w.CredentialUpstreams(ctx, other, []string{w.credential.ID}))(t)),
		"destinations": len(must(w.KnownDestinations(ctx, other, []string{w.destination.ID}))(t)),
	} {
		want(t, what, n, 0)
	}
	known := must(w.KnownDestinations(ctx, w.tenant, []string{w.destination.ID, "destination_none"}))(t)
	want(t, "known", fmt.Sprint(known), fmt.Sprint(map[string]bool{w.destination.ID: true}))
	want(t, "untouched", must(w.Destination(ctx, w.tenant, w.destination.ID))(t).Name, "hook")
}

func testIdempotency(w *world) {
	t := w.t
	ctx := t.Context()
	key := storage.IdempotencyKey{TenantID: w.tenant, Key: "k", Fingerprint: []byte("one")}
	another := storage.IdempotencyKey{TenantID: w.tenant, Key: "k", Fingerprint: []byte("two")}
	reserve := func(k storage.IdempotencyKey, wanted error) *storage.Answer {
		t.Helper()
		answer, err := w.ReserveAnswer(ctx, k)
		wantError(t, "reserve", err, wanted)
		return answer
	}
	reserve(key, nil)
	reserve(key, storage.ErrIdempotencyRunning)
	reserve(another, storage.ErrIdempotencyMismatch)
	check(t, w.DropReservation(ctx, key))
	reserve(another, nil)
	w.clock.advance(11 * time.Second)
	reserve(another, storage.ErrIdempotencyRunning)
	w.clock.advance(time.Second)
	reserve(another, nil) // its process died
	kept := storage.Answer{Status: 201, ContentType: "application/json", Location: "/x", Body: []byte(`{"secret":"whsec_1"}`)}
	wantError(t, "keep another's", w.KeepAnswer(ctx, key, kept), storage.ErrIdempotencyRunning)
	check(t, w.KeepAnswer(ctx, another, kept))
	wantError(t, "keep again", w.KeepAnswer(ctx, another, kept), storage.ErrIdempotencyRunning)
	check(t, w.DropReservation(ctx, another))
	want(t, "answer", fmt.Sprint(*reserve(another, nil)), fmt.Sprint(kept))
	reserve(key, storage.ErrIdempotencyMismatch)
	want(t, "swept early", must(w.Sweep(ctx, 10))(t), 0)
	w.clock.advance(24 * time.Hour)
	reserve(key, nil)
	w.clock.advance(24 * time.Hour)
	want(t, "swept", must(w.Sweep(ctx, 10))(t), 1)
}

// A reservation counts from when it is made, however long it waited for a connection before: else
// its request would count as dead while it is handled.
func TestReservationThatWaited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "relay.db"))
	key := storage.IdempotencyKey{TenantID: w.tenant, Key: "k", Fingerprint: []byte("one")}
	reserved := make(chan error, 1)
	check(t, w.Atomically(t.Context(), func(*storage.Store) error { // SQLite has one connection to write with
		waits := w.Pools()["write"].WaitCount
		go func() {
			_, err := w.ReserveAnswer(t.Context(), key)
			reserved <- err
		}()
		for w.Pools()["write"].WaitCount == waits {
			runtime.Gosched()
		}
		w.clock.advance(9 * time.Second)
		return nil
	}))
	check(t, <-reserved)
	w.clock.advance(11 * time.Second)
	_, err := w.ReserveAnswer(t.Context(), key)
	wantError(t, "take it over", err, storage.ErrIdempotencyRunning)
}

// testIdempotencyContention: of many requests with one key, one does the work.
func testIdempotencyContention(w *world) {
	t := w.t
	for round := range 10 {
		key := storage.IdempotencyKey{TenantID: w.tenant, Key: strconv.Itoa(round), Fingerprint: []byte("f")}
		var mu sync.Mutex
		reserved := 0
		together(t, 5, func(ctx context.Context, _ int) error {
			answer, err := w.ReserveAnswer(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && answer == nil {
				reserved++
			}
			return nil
		})
		want(t, "reserved", reserved, 1)
	}
}

// testSecrets: no secret is readable in the database, and a lost key is named.
func testSecrets(w *world) {
	t := w.t
	ctx := t.Context()
	secret := must(w.OpenCredential(ctx, w.credential.ID))(t)
	want(t, "token", secret.APIToken, "token")
	email := must(w.CreateCredential(ctx, storage.NewCredential{
		TenantID: w.tenant, Upstream: "cloudflare", Name: "e", Secret: storage.CredentialSecret{Email: "A@b.c", APIKey: "key"},
	}))(t)
	same := must(w.CreateCredential(ctx, storage.NewCredential{
		TenantID: w.tenant, Upstream: "cloudflare", Name: "e", Secret: storage.CredentialSecret{Email: "a@B.c", APIKey: "other"},
	}))(t)
	want(t, "budget of an email", email.BudgetID, same.BudgetID)
	stranger := must(w.CreateCredential(ctx, storage.NewCredential{
		TenantID: must(w.EnsureTenant(ctx, "elsewhere"))(t).ID, Upstream: "cloudflare", Name: "e",
		Secret: storage.CredentialSecret{Email: "a@b.c", APIKey: "made up"},
	}))(t)
	want(t, "budget shared with whoever names the email", stranger.BudgetID == email.BudgetID, false)
	want(t, "auth", email.Auth, storage.AuthAPIKey)

	lost := must(storage.Open(ctx, storage.Config{URL: w.url, Keys: must(seal.ParseKeyring(seal.NewKey()))(t)}))(t)
	t.Cleanup(func() { _ = lost.Close() })
	_, err := lost.OpenCredential(ctx, w.credential.ID)
	if err == nil || !strings.Contains(err.Error(), "RELAY_ENCRYPTION_KEYS") {
		t.Errorf("with another keyring: %v", err)
	}
	_, _, err = lost.OpenDestination(ctx, w.destination.ID)
	if err == nil || !strings.Contains(err.Error(), "RELAY_ENCRYPTION_KEYS") {
		t.Errorf("with another keyring: %v", err)
	}
	for _, table := range []string{"credentials", "destinations"} {
		if sealed := rawSecrets(t, w, table); bytes.Contains(sealed, []byte("whsec")) || bytes.Contains(sealed, []byte("token")) {
			t.Errorf("%s holds a readable secret", table)
		}
	}
}

// raw is the database past the store. It prepares nothing: a pooler may stand between.
func (w *world) raw(t *testing.T) *sql.DB {
	t.Helper()
	driver, name := "sqlite", strings.TrimPrefix(w.url, "sqlite:")
	if name == w.url {
		to := must(url.Parse(w.url))(t)
		query := to.Query()
		query.Set("default_query_exec_mode", "cache_describe")
		to.RawQuery = query.Encode()
		driver, name = "pgx", to.String()
	}
	db := must(sql.Open(driver, name))(t)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// rawSecrets reads a table's secrets past the store.
func rawSecrets(t *testing.T, w *world, table string) []byte {
	t.Helper()
	rows := must(w.raw(t).QueryContext(t.Context(), `SELECT secret FROM `+table))(t)
	defer rows.Close()
	var all []byte
	for rows.Next() {
		var secret []byte
		check(t, rows.Scan(&secret))
		all = append(all, secret...)
	}
	check(t, rows.Err())
	return all
}

func testUnavailable(w *world) {
	t := w.t
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	_, err := w.Watch(ctx, w.tenant, "watch_none")
	want(t, "out of time", storage.Unavailable(err), true)
	_, err = w.Watch(t.Context(), w.tenant, "watch_none")
	want(t, "not found", storage.Unavailable(err), false)
	want(t, "no error", storage.Unavailable(nil), false)
	_, _, err = w.CreateKey(t.Context(), storage.NewAPIKey{TenantID: "tenant_none"})
	want(t, "refused", storage.Unavailable(err), false)
}

func testMigrate(t *testing.T, url string) {
	t.Helper()
	keys := must(seal.ParseKeyring(seal.NewKey()))(t)
	open := func() *storage.Store {
		s := must(storage.Open(t.Context(), storage.Config{URL: url, Keys: keys}))(t)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	one, two := open(), open()
	if one.Backend() == "sqlite" {
		two = one // a SQLite file is for one process
	}
	before := must(one.MigrationStatus(t.Context()))(t)
	if before.Current != 0 || before.Latest == 0 || len(before.Pending) == 0 || before.Newer {
		t.Errorf("before: %+v", before)
	}
	var mu sync.Mutex
	var applied []string
	together(t, 2, func(ctx context.Context, i int) error {
		names, err := []*storage.Store{one, two}[i].Migrate(ctx)
		mu.Lock()
		defer mu.Unlock()
		applied = append(applied, names...)
		return err
	})
	want(t, "applied once", fmt.Sprint(applied), fmt.Sprint(before.Pending))
	after := must(two.MigrationStatus(t.Context()))(t)
	if after.Current != before.Latest || len(after.Pending) != 0 || after.Newer {
		t.Errorf("after: %+v", after)
	}
}
