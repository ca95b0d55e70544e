package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"oprelay/api/client"
)

func TestListsArePagedNewestFirst(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	c, ctx := r.client(r.write), t.Context()
	credentialID, destinationID := r.credential(r.write), r.webhook(r.write)
	var batch client.NewWatches
	for i := range 5 {
		batch.Watches = append(batch.Watches, client.NewWatch{
			OperationID: fmt.Sprintf("%032x", i), AccountID: new(accountID), CredentialID: credentialID,
			DestinationIds: []string{destinationID}, TimeoutSeconds: new(60),
		})
	}
	made := ok[*client.CreateWatchesResponse](t, 201)(c.CreateWatchesWithResponse(ctx, nil, batch)).JSON201
	for i, watch := range made.Data {
		if watch.Operation.ID != batch.Watches[i].OperationID {
			t.Errorf("watch %d is for operation %s", i, watch.Operation.ID)
		}
	}
	seen := make(map[string]bool)
	params := &client.ListWatchesParams{Limit: new(2)}
	var sizes []int
	for {
		page := ok[*client.ListWatchesResponse](t, 200)(c.ListWatchesWithResponse(ctx, params)).JSON200
		sizes = append(sizes, len(page.Data))
		for _, watch := range page.Data {
			seen[watch.ID] = true
		}
		if params.Cursor = page.NextCursor; params.Cursor == nil {
			break
		}
	}
	if fmt.Sprint(sizes) != "[2 2 1]" || len(seen) != 5 {
		t.Errorf("pages of %v, %d watches in all", sizes, len(seen))
	}
	one := ok[*client.ListWatchesResponse](t, 200)(c.ListWatchesWithResponse(ctx, &client.ListWatchesParams{
		OperationID: &batch.Watches[3].OperationID, AccountID: new(accountID), Status: &[]client.WatchStatus{client.WatchStatusWatching},
	})).JSON200
	if len(one.Data) != 1 {
		t.Errorf("the filters leave %d", len(one.Data))
	}
	r.expire()
	feed := ok[*client.ListEventsResponse](t, 200)(c.ListEventsWithResponse(ctx, &client.ListEventsParams{Limit: new(3)})).JSON200
	rest := ok[*client.ListEventsResponse](t, 200)(c.ListEventsWithResponse(ctx,
		&client.ListEventsParams{Cursor: feed.NextCursor})).JSON200
	after := ok[*client.ListEventsResponse](t, 200)(c.ListEventsWithResponse(ctx,
		&client.ListEventsParams{After: &feed.Data[2].ID})).JSON200
	if len(feed.Data) != 3 || len(rest.Data) != 2 || rest.NextCursor != nil || len(after.Data) != 2 || after.Data[0].ID != rest.Data[0].ID {
		t.Errorf("feed of %d, then by cursor %d, by after %d", len(feed.Data), len(rest.Data), len(after.Data))
	}
}

func TestACursorIsOfOneList(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	credentialID := r.credential(r.write)
	r.credential(r.write)
	destinationID := r.webhook(r.write)
	r.webhook(r.write)
	for range 2 {
		r.watch(r.write, credentialID, destinationID)
	}
	r.expire()
	lists := []string{"/v1/credentials", "/v1/destinations", "/v1/watches", "/v1/events", "/v1/deliveries", "/v1/keys"}
	for _, from := range lists {
		var page struct {
			NextCursor string `json:"next_cursor"`
		}
		must(t, json.Unmarshal(r.do(r.admin, http.MethodGet, from+"?limit=1", "").body, &page))
		for _, to := range lists {
			want, pointers := http.StatusOK, ""
			if from != to {
				want, pointers = http.StatusUnprocessableEntity, "?cursor"
			}
			answer := r.do(r.admin, http.MethodGet, to+"?cursor="+page.NextCursor, "")
			if answer.status != want || strings.Join(answer.pointers(), " ") != pointers {
				t.Errorf("the cursor of %s on %s: %d %s", from, to, answer.status, answer.body)
			}
		}
	}
}
