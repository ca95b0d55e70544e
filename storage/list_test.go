package storage_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"oprelay/storage"
)

// stranger is another tenant of the same database, with a destination of its own.
func (w *world) stranger(t *testing.T) *world {
	t.Helper()
	other := *w
	other.tenant = must(w.EnsureTenant(t.Context(), "stranger"))(t).ID
	other.credential = w.newCredential(t, other.tenant, "the stranger's")
	other.destination = w.newWebhook(t, other.tenant, false)
	return &other
}

// lettered makes watches a, b and c in one millisecond, d and e an hour later each: a and e
// are watching, b is completed, c failed, d canceled.
func (w *world) lettered(t *testing.T, second storage.Destination) (letters map[string]string) {
	t.Helper()
	letters = map[string]string{}
	one, two, both := []string{w.destination.ID}, []string{second.ID}, []string{second.ID, w.destination.ID}
	for _, n := range []struct {
		letter, operation, account string
		destinations               []string
		metadata                   map[string]string
		after                      time.Duration
	}{
		{"a", "1", "first", one, map[string]string{"deploy": "42"}, time.Microsecond},
		{"b", "2", "first", two, map[string]string{"deploy": "43", "]&'\"%": "ü\n"}, time.Microsecond},
		{"c", "3", "second", both, map[string]string{"deploy": "42", "team": "edge"}, time.Microsecond},
		{"d", "4", "second", one, map[string]string{}, time.Hour},
		{"e", "1", "first", nil, map[string]string{"team": ""}, time.Hour},
	} {
		w.clock.advance(n.after)
		request := w.request(n.operation)
		request.Params["account_id"], request.DestinationIDs, request.Metadata = n.account, n.destinations, n.metadata
		made := must(w.CreateWatches(t.Context(), []storage.NewWatch{request}))(t)[0]
		letters[made.ID] = n.letter
		for _, poll := range w.take(t) {
			if end := map[string]string{"2": storage.WatchCompleted, "3": storage.WatchFailed}[poll.OperationID]; end != "" {
				w.end(t, poll, end)
			}
		}
		if n.letter == "d" {
			must(w.CancelWatch(t.Context(), w.tenant, made.ID))(t)
		}
	}
	return letters
}

// testWatchFilters: each filter leaves what it should of a tenant's watches, in pages of any size.
func testWatchFilters(w *world) {
	t := w.t
	second, other := w.newWebhook(t, w.tenant, false), w.stranger(t)
	letters := w.lettered(t, second)
	w.clock.advance(time.Hour)
	for id := range other.lettered(t, w.newWebhook(t, other.tenant, false)) {
		letters[id] = "another tenant's"
	}
	micro := func(n int) time.Time { return start.Add(time.Duration(n) * time.Microsecond) }
	for i, f := range []struct {
		filter storage.WatchFilter
		want   string
	}{
		{storage.WatchFilter{}, "e d c b a"},
		{storage.WatchFilter{Statuses: []string{storage.WatchWatching}}, "e a"},
		{storage.WatchFilter{Statuses: []string{storage.WatchFailed, storage.WatchCanceled, storage.WatchExpired}}, "d c"},
		{storage.WatchFilter{Statuses: []string{storage.WatchCompleted, storage.WatchWatching}, AccountID: "first"}, "e b a"},
		{storage.WatchFilter{Statuses: []string{storage.WatchFailed, storage.WatchWatching}, AccountID: "second"}, "c"},
		{storage.WatchFilter{Statuses: []string{storage.WatchUnobservable}}, ""},
		{storage.WatchFilter{Source: "cloudflare.lists"}, "e d c b a"},
		{storage.WatchFilter{Source: "github.runs"}, ""},
		{storage.WatchFilter{OperationID: "1"}, "e a"},
		{storage.WatchFilter{OperationID: "1", CreatedBefore: micro(5)}, "a"},
		{storage.WatchFilter{AccountID: "second"}, "d c"},
		{storage.WatchFilter{AccountID: "second", OperationID: "1"}, ""},
		{storage.WatchFilter{DestinationID: second.ID}, "c b"},
		{storage.WatchFilter{DestinationID: w.destination.ID}, "d c a"},
		{storage.WatchFilter{DestinationID: other.destination.ID}, ""},
		{storage.WatchFilter{Metadata: map[string]string{"deploy": "42"}}, "c a"},
		{storage.WatchFilter{Metadata: map[string]string{"deploy": "42", "team": "edge"}}, "c"},
		{storage.WatchFilter{Metadata: map[string]string{"]&'\"%": "ü\n"}}, "b"},
		{storage.WatchFilter{Metadata: map[string]string{"team": ""}}, "e"},
		{storage.WatchFilter{Metadata: map[string]string{"none": ""}}, ""},
		{storage.WatchFilter{CreatedAfter: micro(1)}, "e d c b"},
		{storage.WatchFilter{CreatedBefore: micro(3)}, "b a"},
		{storage.WatchFilter{CreatedAfter: micro(1), CreatedBefore: micro(3)}, "b"},
		{storage.WatchFilter{CreatedAfter: micro(3), CreatedBefore: micro(3)}, ""},
		{storage.WatchFilter{CreatedAfter: start.Add(90 * time.Minute), CreatedBefore: start.Add(24 * time.Hour)}, "e"},
		{storage.WatchFilter{CreatedAfter: time.Unix(-1e12, 0), CreatedBefore: time.Unix(1e12, 0)}, "e d c b a"},
		{storage.WatchFilter{CreatedAfter: time.Unix(1e12, 0)}, ""},
	} {
		f.filter.TenantID = w.tenant
		for _, limit := range []int{1, 2, 50} {
			var got []string
			for page := (storage.Page{Limit: limit}); ; {
				list := must(w.Watches(t.Context(), f.filter, page))(t)
				for _, watch := range list.Data {
					got = append(got, letters[watch.ID])
				}
				if page.After = list.Next; page.After == "" {
					break
				}
			}
			want(t, fmt.Sprintf("filter %d, pages of %d", i, limit), strings.Join(got, " "), f.want)
		}
	}
	check(t, w.ForceDeleteDestination(t.Context(), w.tenant, second.ID))
	gone := must(w.Watches(t.Context(), storage.WatchFilter{TenantID: w.tenant, DestinationID: second.ID}, storage.Page{Limit: 5}))(t)
	want(t, "of a destination that is deleted", len(gone.Data), 0)
}

// testDeliveryFilters: as testWatchFilters, for deliveries.
func testDeliveryFilters(w *world) {
	t := w.t
	second, other := w.newWebhook(t, w.tenant, false), w.stranger(t)
	foreign := other.complete(t, "1")
	complete, test := w.complete(t, "1"), must(w.TestDestination(t.Context(), w.tenant, second.ID))(t)
	w.record(t, w.attempt(w.deliveries(t, w.destination)[0], storage.DeliveryFailed, 0))
	w.clock.advance(time.Microsecond)
	late := must(w.TestDestination(t.Context(), w.tenant, w.destination.ID))(t)
	letters := map[string]string{complete.ID: "c", test.ID: "t", late.ID: "l", foreign.ID: "another tenant's"}
	for i, f := range []struct {
		filter storage.DeliveryFilter
		want   string
	}{
		{storage.DeliveryFilter{}, "l t c"},
		{storage.DeliveryFilter{EventType: storage.EventDestinationTest}, "l t"},
		{storage.DeliveryFilter{EventType: storage.EventDestinationTest, DestinationID: second.ID}, "t"},
		{storage.DeliveryFilter{EventType: storage.EventCredentialRejected}, ""},
		{storage.DeliveryFilter{CreatedAfter: start}, "l"},
		{storage.DeliveryFilter{CreatedBefore: start.Add(time.Microsecond)}, "t c"},
		{storage.DeliveryFilter{CreatedBefore: start}, ""},
		{storage.DeliveryFilter{WatchID: complete.WatchID}, "c"},
		{storage.DeliveryFilter{WatchID: complete.WatchID, CreatedAfter: start}, ""},
		{storage.DeliveryFilter{WatchID: complete.WatchID, EventID: test.EventID}, ""},
		{storage.DeliveryFilter{EventID: complete.EventID, Status: storage.DeliveryFailed}, "c"},
		{storage.DeliveryFilter{EventID: complete.EventID, Status: storage.DeliveryPending}, ""},
		{storage.DeliveryFilter{DestinationID: w.destination.ID}, "l c"},
		{storage.DeliveryFilter{DestinationID: w.destination.ID, Status: storage.DeliveryPending}, "l"},
		{storage.DeliveryFilter{DestinationID: second.ID, Status: storage.DeliverySucceeded}, ""},
		{storage.DeliveryFilter{Status: storage.DeliveryFailed}, "c"},
		{storage.DeliveryFilter{EventID: foreign.EventID}, ""},
		{storage.DeliveryFilter{WatchID: foreign.WatchID}, ""},
		{storage.DeliveryFilter{DestinationID: other.destination.ID}, ""},
	} {
		f.filter.TenantID = w.tenant
		var got []string
		for page := (storage.Page{Limit: 1}); ; {
			list := must(w.Deliveries(t.Context(), f.filter, page))(t)
			for _, d := range list.Data {
				got = append(got, letters[d.ID])
			}
			if page.After = list.Next; page.After == "" {
				break
			}
		}
		want(t, fmt.Sprint("filter ", i), strings.Join(got, " "), f.want)
	}
}

// testRecoverTypes: what a dry run counts is what is then redelivered, of the types that are asked for.
func testRecoverTypes(w *world) {
	t := w.t
	w.complete(t, "1")
	must(w.TestDestination(t.Context(), w.tenant, w.destination.ID))(t)
	for _, due := range w.deliveries(t, w.destination) {
		w.record(t, w.attempt(due, storage.DeliveryFailed, 0))
	}
	r := storage.Recovery{TenantID: w.tenant, DestinationID: w.destination.ID, Since: start}
	want(t, "all", must(w.Recoverable(t.Context(), r))(t), 2)
	r.Types = []string{storage.EventCredentialRejected}
	want(t, "of none", must(w.Recoverable(t.Context(), r))(t), 0)
	r.Types = []string{storage.EventCredentialRejected, storage.EventDestinationTest}
	want(t, "of one", must(w.Recoverable(t.Context(), r))(t), 1)
	want(t, "due after a dry run", len(w.deliveries(t, w.destination)), 0)
	want(t, "recovered", must(w.Recover(t.Context(), r, nil))(t), 1)
	due := w.deliveries(t, w.destination)
	want(t, "due", len(due), 1)
	want(t, "type", due[0].EventType, storage.EventDestinationTest)
	_, err := w.Recoverable(t.Context(), storage.Recovery{TenantID: "tenant_other", DestinationID: w.destination.ID})
	wantError(t, "another tenant's", err, storage.ErrNotFound)
}
