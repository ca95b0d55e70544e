package storage

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/storage/sqldb"
)

// What is no id of its prefix is NULL in SQL, and an id is the same when it is read again.
func TestIDs(t *testing.T) {
	t.Parallel()
	made := newID(prefixWatch)
	if got := prefixWatch.id(prefixWatch.arg(made)); got != made {
		t.Errorf("%s is read as %s", made, got)
	}
	letters := strings.TrimPrefix(made, "watch_")
	for _, wrong := range []string{
		"", "watch_", "watch", letters, "event_" + letters, "watch_watch_" + letters, "watch" + letters, made[:len(made)-1], made + "0",
		strings.ToUpper(made), "watch_8" + letters[1:], "watch_" + letters[:25] + "u", " " + made, made + "\n", FeedStart,
	} {
		if got := prefixWatch.arg(wrong); got != (sqldb.UUID{}) {
			t.Errorf("%q is %x", wrong, got)
		}
	}
}

// A tenant's id is its number, and what has none is NULL in SQL.
func TestTenantIDs(t *testing.T) {
	t.Parallel()
	for number, id := range map[int64]string{
		1: "tenant_00000000000000000000000001", 32: "tenant_00000000000000000000000010", math.MaxInt64: "tenant_00000000000007zzzzzzzzzzzz",
	} {
		if got := prefixTenant.id(number); got != id {
			t.Errorf("the id of %d is %s, want %s", number, got, id)
		}
		if got := prefixTenant.arg(id); got == nil || *got != number {
			t.Errorf("the number of %s is %v, want %d", id, got, number)
		}
	}
	for _, wrong := range []string{
		"", "tenant_", "tenant_none", "key_00000000000000000000000001", newID("tenant"), "tenant_00000000000000000000000000",
		"tenant_00000000000008000000000000", "tenant_0000000000000g000000000001", "tenant_000000000000000000000000001",
	} {
		if got := prefixTenant.arg(wrong); got != nil {
			t.Errorf("%q is %d", wrong, *got)
		}
	}
	if got := prefixTenant.id(0); got != "" {
		t.Errorf("NULL is %q", got)
	}
}

// The bytes sort as the ids do, and both by time.
func TestIDsSortByTime(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *planned) {
		t.Helper()
		at := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
		ids := []string{firstID(prefixEvent, time.Time{})}
		for i := range 40 {
			at = at.Add(time.Duration(i%2) * time.Millisecond)
			if i%2 == 1 {
				ids = append(ids, firstID(prefixEvent, at))
			}
			ids = append(ids, p.db.datedID(prefixEvent, at))
		}
		ids = append(ids, nextID(prefixEvent, ids[len(ids)-1]))
		if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
			t.Errorf("not in the order of their times: %v", ids)
		}
		var rows [][]any
		for i, id := range ids {
			rows = append(rows, []any{-i, 0, prefixEvent.arg(id), 0})
		}
		slices.Reverse(rows)
		check(t, p.write(t.Context(), func(tx *transaction) error {
			return tx.InsertRows(`INSERT INTO feed_starts (tenant_id, seq, event_id, created_at)`, rows)
		}))
		sorted := get(sqldb.All(t.Context(), p.reader(), prefixEvent.read, `SELECT event_id FROM feed_starts WHERE seq = 0 ORDER BY event_id`))(t)
		if !slices.Equal(sorted, ids) {
			t.Errorf("the database sorts %v", sorted)
		}
	})
}

// Whoever asks for what is no id, or for an id of another noun, finds nothing.
func TestWrongIDsFindNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *planned) {
		t.Helper()
		ctx, watch := t.Context(), p.register(1)[0]
		p.end(p.polls(1, nil))
		delivery := p.deliveries(p.destination, 1, nil)[0]
		noun := map[string]prefix{watch.ID: prefixWatch, delivery.ID: prefixDelivery, delivery.EventID: prefixEvent, p.destination.ID: prefixDestination, p.credential.ID: prefixCredential}
		for id, of := range noun {
			for _, wrong := range []string{prefixKey.id(of.arg(id)), id[:len(id)-1], string(of) + "_\x00", "'"} {
				p.findsNothing(wrong)
			}
		}
		for what, found := range []int{
			len(get(p.Deliveries(ctx, DeliveryFilter{TenantID: p.tenant, WatchID: watch.ID}, Page{Limit: 9}))(t).Data),
			len(get(p.Deliveries(ctx, DeliveryFilter{TenantID: p.tenant, EventID: delivery.EventID}, Page{Limit: 9}))(t).Data),
			len(get(p.Watches(ctx, WatchFilter{TenantID: p.tenant, DestinationID: p.destination.ID}, Page{Limit: 9}))(t).Data),
			len(get(p.KnownDestinations(ctx, p.tenant, []string{"destination_", p.destination.ID}))(t)),
		} {
			if found == 0 {
				t.Errorf("%d: what is there is not found", what)
			}
		}
	})
}

func (p *planned) findsNothing(id string) {
	p.t.Helper()
	ctx, tenant, page := p.t.Context(), p.tenant, Page{Limit: 9}
	for name, err := range map[string]error{
		"Watch": second(p.Watch(ctx, tenant, id)), "Event": second(p.Event(ctx, tenant, id)), "Events": second(p.Events(ctx, FeedFilter{TenantID: tenant, After: id}, 9)),
		"CancelWatch": second(p.CancelWatch(ctx, tenant, id)), "Redeliver": second(p.Redeliver(ctx, tenant, id)),
		"Destination": second(p.Destination(ctx, tenant, id)), "TestDestination": second(p.TestDestination(ctx, tenant, id)),
		"DisableDestination": second(p.DisableDestination(ctx, "", id, DisabledGone)), "OpenCredential": second(p.OpenCredential(ctx, id)),
		"UpdateDestination": second(p.UpdateDestination(ctx, tenant, id, DestinationPatch{})), "DeleteDestination": p.DeleteDestination(ctx, tenant, id),
		"Credential": second(p.Credential(ctx, tenant, id)), "DeleteCredential": p.DeleteCredential(ctx, tenant, id), "RevokeKey": p.RevokeKey(ctx, tenant, id),
		"CreateWatches": second(p.CreateWatches(ctx, []NewWatch{{TenantID: tenant, Upstream: "cloudflare", CredentialID: id}})),
		"of a tenant":   second(p.Watch(ctx, id, id)),
	} {
		if !errors.Is(err, ErrNotFound) {
			p.t.Errorf("%s(%q): %v", name, id, err)
		}
	}
	for name, list := range map[string]int{
		"watches at a destination":    len(get(p.Watches(ctx, WatchFilter{TenantID: tenant, DestinationID: id}, page))(p.t).Data),
		"watches after one":           len(get(p.Watches(ctx, WatchFilter{TenantID: tenant}, Page{Limit: 9, After: id}))(p.t).Data),
		"deliveries of a watch":       len(get(p.Deliveries(ctx, DeliveryFilter{TenantID: tenant, WatchID: id}, page))(p.t).Data),
		"deliveries of an event":      len(get(p.Deliveries(ctx, DeliveryFilter{TenantID: tenant, EventID: id}, page))(p.t).Data),
		"deliveries to a destination": len(get(p.Deliveries(ctx, DeliveryFilter{TenantID: tenant, DestinationID: id}, page))(p.t).Data),
		"keys":                        len(get(p.ValidKeys(ctx, []string{id}))(p.t)),
		"keys of a tenant":            len(get(p.Keys(ctx, id, page))(p.t).Data),
	} {
		if list != 0 {
			p.t.Errorf("%s: %d are found by %q", name, list, id)
		}
	}
}

func second[T any](_ T, err error) error { return err }
