package storage

import (
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/storage/sqldb"
)

// What a transaction publishes is numbered in its order, each tenant's by itself, however
// many statements that takes; and nothing is told to a tenant that is not there.
func TestEventsAreNumberedInTheirOrder(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *planned) {
		t.Helper()
		ctx := t.Context()
		tenants := []string{p.tenant, get(p.EnsureTenant(ctx, "another"))(t).ID}
		const most = 1500 // more than a statement of SQLite takes
		var events []event
		published := map[string][]string{}
		for i := range most {
			e := event{id: newID(prefixEvent), tenantID: tenants[i%3%2], kind: EventDestinationTest, body: []byte("{}")}
			events = append(events, e)
			published[e.tenantID] = append(published[e.tenantID], e.id)
		}
		publish := func(events []event) error {
			return p.write(ctx, func(tx *transaction) error { return tx.publish(events) })
		}
		check(t, publish(events[:most/2]))
		lost := []event{events[0], events[0]}
		lost[0].id, lost[1].id, lost[1].tenantID = "", "", "tenant_none"
		err := publish(lost)
		if err == nil || Unavailable(err) {
			t.Errorf("an event of a tenant that is not there: %v", err)
		}
		check(t, publish(events[most/2:]))
		for _, tenant := range tenants {
			page := get(p.Events(ctx, FeedFilter{TenantID: tenant}, most))(t)
			var ids []string
			for _, e := range page.Data {
				ids = append(ids, e.ID)
			}
			if !slices.Equal(ids, published[tenant]) {
				t.Errorf("%d events of one tenant were published, and the %d of its feed are not those, in that order", len(published[tenant]), len(ids))
			}
			last := get(sqldb.One(ctx, p.reader(), sqldb.Int, `SELECT MAX(seq) FROM events WHERE tenant_id = $1`, prefixTenant.arg(tenant)))(t)
			if last != int64(len(ids)) {
				t.Errorf("%d events have numbers up to %d", len(ids), last)
			}
		}
	})
}

// BenchmarkRenderBody renders the event of an operation that has failed.
func BenchmarkRenderBody(b *testing.B) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC)
	data := operationEventData{
		WatchID: "watch_01h455vb4pex5vsknk084sn02q",
		Operation: operationBody(Operation{
			Source: "cloudflare.lists", Params: map[string]string{"account_id": strings.Repeat("a", 32)}, ID: strings.Repeat("b", 32),
			Status: OperationFailed, Error: "This list is at the maximum number of items", CompletedAt: at,
		}),
		ObservedAt: at, Polls: 7, Metadata: map[string]string{"deploy": "42", "pipeline": "edge-configuration"},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := renderBody(EventOperationFailed, at, data); err != nil {
			b.Fatal(err)
		}
	}
}
