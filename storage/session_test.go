package storage_test

import (
	"strings"
	"testing"
	"time"

	"oprelay/storage"
)

// testSessions: a session opens its key until its time is up, it is ended, or the key is revoked.
func testSessions(w *world) {
	t := w.t
	ctx := t.Context()
	key, secret, err := w.CreateKey(ctx, storage.NewAPIKey{TenantID: w.tenant, Name: "ada", Scopes: []storage.Scope{storage.ScopeWrite}})
	check(t, err)
	first := string(must(w.CreateSession(ctx, string(secret)))(t))
	second := string(must(w.CreateSession(ctx, string(secret)))(t))
	want(t, "two sessions of one key are two", first != second, true)
	opened := must(w.SessionKey(ctx, first))(t)
	want(t, "key", opened.ID, key.ID)
	want(t, "tenant", opened.TenantName, "acme")
	want(t, "may write", opened.May(storage.ScopeWrite), true)
	want(t, "may do everything", opened.May(storage.ScopeAdmin), false)
	want(t, "used", must(w.AllKeys(ctx))(t)[0].LastUsedAt, start)

	for name, token := range map[string]string{"forged": first[1:] + "A", "empty": "", "the key itself": string(secret), "in lower case": strings.ToLower(first)} {
		_, err = w.SessionKey(ctx, token)
		wantError(t, name, err, storage.ErrNotFound)
	}
	_, err = w.CreateSession(ctx, "relay_wrong")
	wantError(t, "a session with a wrong key", err, storage.ErrNotFound)

	check(t, w.EndSession(ctx, first))
	check(t, w.EndSession(ctx, first))
	_, err = w.SessionKey(ctx, first)
	wantError(t, "ended", err, storage.ErrNotFound)

	w.clock.advance(storage.SessionTime - time.Microsecond)
	must(w.SessionKey(ctx, second))(t)
	want(t, "swept early", must(w.SweepSessions(ctx, 10))(t), 0)
	w.clock.advance(time.Microsecond)
	_, err = w.SessionKey(ctx, second)
	wantError(t, "when its time is up", err, storage.ErrNotFound)
	want(t, "swept", must(w.SweepSessions(ctx, 10))(t), 1)

	third := string(must(w.CreateSession(ctx, string(secret)))(t))
	check(t, w.RevokeKey(ctx, w.tenant, key.ID))
	_, err = w.SessionKey(ctx, third)
	wantError(t, "of a revoked key", err, storage.ErrNotFound)
	_, err = w.CreateSession(ctx, string(secret))
	wantError(t, "a session with a revoked key", err, storage.ErrNotFound)
}

// A key's scopes include the ones before them.
func TestScopes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		has    []storage.Scope
		needed storage.Scope
		want   bool
	}{
		{[]storage.Scope{storage.ScopeRead}, storage.ScopeRead, true},
		{[]storage.Scope{storage.ScopeRead}, storage.ScopeWrite, false},
		{[]storage.Scope{storage.ScopeWrite}, storage.ScopeRead, true},
		{[]storage.Scope{storage.ScopeAdmin}, storage.ScopeWrite, true},
		{[]storage.Scope{storage.ScopeRead, storage.ScopeAdmin}, storage.ScopeAdmin, true},
		{[]storage.Scope{"other"}, storage.ScopeRead, false},
		{nil, storage.ScopeRead, false},
	} {
		if got := (storage.Key{Scopes: c.has}).May(c.needed); got != c.want {
			t.Errorf("%q may %s: %v", c.has, c.needed, got)
		}
	}
}
