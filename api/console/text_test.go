package console_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"oprelay/storage"
)

// upstreamWord is the upstream's own for an operation that fails.
const upstreamWord = "<img src=x>stopped"

const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(1)> {{.}} javascript:alert(1)`

// ends has every operation that is watched fail with the upstream's words, and every delivery of that be refused
// with the receiver's, as workers would.
func (r *relay) ends(upstream, receiver string) {
	r.t.Helper()
	r.polls(storage.PollResult{
		Status: storage.OperationFailed, UpstreamStatus: upstreamWord, End: storage.WatchFailed, Error: upstream,
		CompletedAt: r.clock.Now(), CredentialAccepted: true,
	})
	r.attempts(storage.DeliveryPending, receiver)
}

// attempts has every delivery that is due be refused with the receiver's words, and then have the status.
func (r *relay) attempts(status, receiver string) {
	r.t.Helper()
	ctx := r.t.Context()
	for _, group := range r.lease(storage.DeliverGroup) {
		due, err := r.store.DueDeliveries(ctx, storage.TakeDeliveries{Group: group.ID, Owner: "test", Max: 20})
		must(r.t, err)
		for _, d := range due {
			must(r.t, r.store.RecordAttempts(ctx, []storage.AttemptResult{{
				DeliveryID: d.ID, DestinationID: d.DestinationID, AttemptsMade: d.AttemptsMade, Status: status,
				NextAttemptAt: r.store.Steady().Add(time.Minute),
				Attempt: storage.Attempt{
					Number: d.AttemptsMade + 1, StartedAt: r.clock.Now(), StatusCode: http.StatusBadGateway, Error: receiver,
					ResponseBody: []byte(receiver),
				},
			}}))
		}
	}
}

// polls has every poll that is due come to the result.
func (r *relay) polls(result storage.PollResult) {
	r.t.Helper()
	ctx := r.t.Context()
	for _, group := range r.lease(storage.PollGroup) {
		taken, err := r.store.TakePolls(ctx, storage.TakePolls{
			Group: group.ID, Owner: "test", Budget: storage.Budget{N: 100, Per: time.Minute}, Max: 20,
			Intervals: storage.Intervals{Min: time.Second, Max: time.Minute, Lag: 0.1}, Grace: time.Minute,
		})
		must(r.t, err)
		for _, poll := range taken.Polls {
			result.RowID, result.At = poll.RowID, r.store.Steady()
			must(r.t, r.store.RecordPolls(ctx, []storage.PollResult{result}))
		}
	}
}

// lease leases all groups of a kind that are due.
func (r *relay) lease(kind storage.GroupKind) (leased []storage.Group) {
	r.t.Helper()
	due, err := r.store.DueGroups(r.t.Context(), 10)
	must(r.t, err)
	for _, group := range due {
		if group.Kind != kind {
			continue
		}
		ok, err := r.store.LeaseGroup(r.t.Context(), group, "test", time.Hour)
		if err != nil || !ok {
			r.t.Fatalf("lease %v: %v %v", group, ok, err)
		}
		leased = append(leased, group)
	}
	return leased
}

// Text from outside stays text: an upstream's error, metadata, names, a receiver's answer, what is in the URL.
func TestTextStaysText(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, key := r.key(r.tenant, storage.ScopeWrite)
	quoted, err := json.Marshal(hostile)
	must(t, err)
	name := string(quoted)
	credential := r.made(key, "/v1/credentials", `{"name":`+name+`,"api_token":"token"}`)
	destination := r.made(key, "/v1/destinations", `{"type":"webhook","name":`+name+`,"url":"`+publicURL+`","headers":{"X-Team":"<b>"}}`)
	watch := r.made(key, "/v1/watches", `{"operation_id":"`+operationID+`","account_id":"`+accountID+`","credential_id":"`+credential+
		`","destination_ids":["`+destination+`"],"name":`+name+`,"metadata":{`+name+`:`+name+`}}`)
	b := r.signedIn(r.tenant, storage.ScopeAdmin)
	if got := b.post("/keys", url.Values{"name": {hostile}, "scope": {"read"}}); got.status != http.StatusCreated {
		t.Fatalf("a key: %d", got.status)
	}
	r.ends(hostile, hostile)
	ended, err := r.store.Watch(t.Context(), r.tenant.ID, watch)
	must(t, err)
	deliveries, err := r.store.Deliveries(t.Context(), storage.DeliveryFilter{TenantID: r.tenant.ID}, storage.Page{Limit: 1})
	must(t, err)
	escaped := url.QueryEscape(hostile)
	for _, path := range []string{
		"/", "/watches", "/watches/" + watch, "/events", "/events/" + ended.EventID, "/deliveries", "/deliveries/" + deliveries.Data[0].ID,
		"/destinations", "/destinations/" + destination, "/destinations/" + destination + "/recover", "/credentials",
		"/credentials/" + credential, "/keys", "/sources", "/watches?source=" + escaped, "/watches?operation_id=" + escaped, "/watches?status=" + escaped, "/watches?" + escaped + "=1",
		"/watches?metadata=" + escaped + "%3D1", "/watches/" + url.PathEscape(hostile), "/" + url.PathEscape(hostile),
		"/events?type=" + escaped, "/deliveries?event_id=" + escaped, "/watches?cursor=" + escaped, "/watches?done=" + escaped,
	} {
		got := b.get(path)
		for range 3 { // as a browser goes on
			if to := got.header.Get("Location"); to != "" {
				got = b.get(to)
			}
		}
		for _, part := range []string{"<script>alert", "<img", `"'>`, "<b>"} {
			if strings.Contains(got.body, part) {
				t.Errorf("GET %s holds %q:\n%s", path, part, got.body)
			}
		}
		got.wantPage(t, path)
		got.wantPolicy(t, path)
	}
	page := b.get("/watches/" + watch).body
	if n := strings.Count(page, "&lt;script&gt;alert(1)&lt;/script&gt;"); n < 6 {
		t.Errorf("the watch's page tells the name, the error, the metadata and the answer %d times:\n%s", n, page)
	}
}
