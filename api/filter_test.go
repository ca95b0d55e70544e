package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/storage"
)

// Every filter of a list reaches the store, as the generated client writes it.
func TestFiltersOfWatches(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	c, ctx := r.client(r.write), t.Context()
	credentialID, destinationID, second := r.credential(r.write), r.webhook(r.write), r.webhook(r.write)
	const otherOperation, otherAccount = "5da8780eeb215e6cb7f48dd981c4ea02", "123e105f4ecef8ad9ca31a8372d0c353"
	odd := map[string]string{"k8s.io/name": "a b&c=d", "ключ": "=%", "": "x"}
	delete(odd, "")
	register := func(operation, account, destination string, metadata client.Metadata) client.Watch {
		r.clock.advance(time.Millisecond)
		return *ok[*client.CreateWatchResponse](t, 201)(c.CreateWatchWithResponse(ctx, nil, client.NewWatch{
			OperationID: operation, AccountID: new(account), CredentialID: credentialID,
			DestinationIds: []string{destination}, Metadata: &metadata,
		})).JSON201
	}
	first := register(operationID, accountID, destinationID, odd)
	last := register(otherOperation, otherAccount, second, client.Metadata{"deploy": "42"})
	ok[*client.CancelWatchResponse](t, 200)(c.CancelWatchWithResponse(ctx, last.ID))
	_, foreign := r.otherTenant()
	r.watch(foreign, r.credential(foreign), r.webhook(foreign))

	source, unknown := "cloudflare.lists", "github.runs"
	for i, f := range []struct {
		params client.ListWatchesParams
		want   []string
	}{
		{client.ListWatchesParams{}, []string{last.ID, first.ID}},
		{client.ListWatchesParams{Status: &[]client.WatchStatus{client.WatchStatusWatching}}, []string{first.ID}},
		{client.ListWatchesParams{Status: &[]client.WatchStatus{"failed", "canceled", "canceled"}}, []string{last.ID}},
		{client.ListWatchesParams{Status: &[]client.WatchStatus{"watching", "canceled"}}, []string{last.ID, first.ID}},
		{client.ListWatchesParams{Source: &source}, []string{last.ID, first.ID}},
		{client.ListWatchesParams{Source: &unknown}, nil},
		{client.ListWatchesParams{OperationID: new(otherOperation)}, []string{last.ID}},
		{client.ListWatchesParams{AccountID: new(accountID)}, []string{first.ID}},
		{client.ListWatchesParams{DestinationID: &second}, []string{last.ID}},
		{client.ListWatchesParams{Metadata: &odd}, []string{first.ID}},
		{client.ListWatchesParams{Metadata: &map[string]string{"deploy": "42"}}, []string{last.ID}},
		{client.ListWatchesParams{Metadata: &map[string]string{"deploy": "42", "ключ": "=%"}}, nil},
		{client.ListWatchesParams{CreatedAfter: &first.CreatedAt}, []string{last.ID}},
		{client.ListWatchesParams{CreatedBefore: &last.CreatedAt}, []string{first.ID}},
	} {
		list := ok[*client.ListWatchesResponse](t, 200)(c.ListWatchesWithResponse(ctx, &f.params)).JSON200
		var got []string
		for _, watch := range list.Data {
			got = append(got, watch.ID)
		}
		if !slices.Equal(got, f.want) || list.NextCursor != nil {
			t.Errorf("filter %d: %v, want %v", i, got, f.want)
		}
	}
}

func TestFiltersOfDeliveries(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	c, ctx := r.client(r.write), t.Context()
	credentialID, destinationID := r.credential(r.write), r.webhook(r.write)
	r.watch(r.write, credentialID, destinationID)
	r.expire()
	expired := ok[*client.ListDeliveriesResponse](t, 200)(c.ListDeliveriesWithResponse(ctx, nil)).JSON200.Data[0]
	r.clock.advance(time.Millisecond)
	test := ok[*client.TestDestinationResponse](t, 202)(c.TestDestinationWithResponse(ctx, destinationID, nil)).JSON202
	kind := client.EventDestinationTest
	for i, f := range []struct {
		params client.ListDeliveriesParams
		want   string
	}{
		{client.ListDeliveriesParams{EventType: &kind}, test.ID},
		{client.ListDeliveriesParams{CreatedAfter: &expired.CreatedAt}, test.ID},
		{client.ListDeliveriesParams{CreatedBefore: &test.CreatedAt}, expired.ID},
	} {
		list := ok[*client.ListDeliveriesResponse](t, 200)(c.ListDeliveriesWithResponse(ctx, &f.params)).JSON200
		if len(list.Data) != 1 || list.Data[0].ID != f.want {
			t.Errorf("filter %d: %+v, want %s", i, list.Data, f.want)
		}
	}
}

// Filters that are wrong are named, and none is ignored.
func TestWrongFilters(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	var many []string
	for i := range 51 {
		many = append(many, fmt.Sprintf("metadata[k%d]=v", i))
	}
	for query, want := range map[string]string{
		"metadata=x":                  "?metadata",
		"metadata[]=x":                "?metadata[]",
		"metadata[a=x":                "?metadata[a",
		"metadata]a[=x":               "?metadata]a[",
		"metadata[a][b]=x":            "?metadata[a][b]",
		"metadata%5B%5B%5D=x":         "?metadata[[]",
		"metadata[a]=x&metadata[a]=y": "?metadata[a]",
		"metadata[a%00]=x":            "?metadata[a\x00]",
		"metadata[%ff]=x":             "?metadata[\ufffd]",
		"metadata[" + strings.Repeat("k", 256) + "]=x": "?metadata[" + strings.Repeat("k", 191) + "…",
		strings.Join(many, "&"):                        "?metadata",
		"Metadata[a]=x":                                "?Metadata[a]",
		"status=":                                      "?status",
		"status=failed,":                               "?status",
		"status=bogus,failed":                          "?status",
		"status=failed&status=expired":                 "?status",
		"status=failed,failed,failed,failed,failed,failed,failed": "?status",
		"source=":                                  "?source",
		"source=a%00":                              "?source",
		"operation_id=%ff":                         "?operation_id",
		"destination_id=watch_1":                   "?destination_id",
		"created_after=yesterday":                  "?created_after",
		"created_after=2026-02-30T10:00:00Z":       "?created_after",
		"created_after=":                           "?created_after",
		"created_before=2026-11-23":                "?created_before",
		"created_before=2026-11-23T10:00:00+01:00": "?created_before", // the + is a space
		"updated_after=2026-11-23T10:00:00Z":       "?updated_after",
	} {
		answer := r.do(r.write, http.MethodGet, "/v1/watches?"+query, "")
		if got := answer.pointers(); answer.status != 422 || !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %d %q, want %q: %s", query, answer.status, got, want, answer.body)
		}
	}
	if answer := r.do(r.write, http.MethodGet, "/v1/watches?status=bogus&metadata[]=x&created_after=x&limit=0", ""); len(answer.problem.Errors) != 4 {
		t.Errorf("not every fault is named: %s", answer.body)
	}
	for _, query := range []string{
		"status=failed%2Cexpired", "metadata%5Ba%5D=x", "metadata[a]=", "created_before=" + url.QueryEscape("2026-11-23T10:00:00+01:00"),
		strings.Join(many[:50], "&"),
	} {
		if answer := r.do(r.write, http.MethodGet, "/v1/watches?"+query, ""); answer.status != 200 {
			t.Errorf("%s: %d %s", query, answer.status, answer.body)
		}
	}
}

// A dry run tells what a recovery would send, and sends nothing; types narrow both.
func TestRecoverDry(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	destinationID := r.webhook(r.write)
	path := "/v1/destinations/" + destinationID
	since := r.clock.Now().Format(time.RFC3339Nano)
	r.do(r.write, http.MethodPost, path+"/test", "")
	r.attempted(destinationID, storage.DeliveryFailed, "refused")
	count := func(fields string, want int) {
		t.Helper()
		var counted client.Recovered
		answer := r.do(r.write, http.MethodPost, path+"/recover", `{"since":"`+since+`"`+fields+`}`, withHeader("Idempotency-Key", fields))
		must(t, json.Unmarshal(answer.body, &counted))
		if answer.status != http.StatusAccepted || counted.Count != want {
			t.Errorf("%s: %d %s, want %d", fields, answer.status, answer.body, want)
		}
	}
	waiting := func(what string, want int) {
		t.Helper()
		n, err := r.store.Waiting(t.Context(), destinationID)
		must(t, err)
		if n != want {
			t.Errorf("%s: %d deliveries wait, want %d", what, n, want)
		}
	}
	count(`,"dry_run":true`, 1)
	count(`,"dry_run":true,"types":["operation.failed","destination.test"]`, 1)
	count(`,"types":["operation.failed"]`, 0)
	count(`,"types":["operation.failed"],"dry_run":false`, 0)
	waiting("after dry runs", 0)
	count(`,"types":["destination.test"]`, 1)
	waiting("after a recovery", 1)

	_, other := r.otherTenant()
	if answer := r.do(other, http.MethodPost, path+"/recover", `{"since":"`+since+`","dry_run":true}`); answer.status != 404 {
		t.Errorf("another tenant's: %d", answer.status)
	}
	for fields, want := range map[string]string{
		`,"types":[]`: "/types", `,"types":["x"]`: "/types/0", `,"dry_run":"yes"`: "/dry_run", `,"dry":true`: "/dry",
	} {
		answer := r.do(r.write, http.MethodPost, path+"/recover", `{"since":"`+since+`"`+fields+`}`)
		if got := answer.pointers(); answer.status != 422 || !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %d %q", fields, answer.status, got)
		}
	}
}
