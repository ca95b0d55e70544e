package storage_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"oprelay/storage"
)

func testBatchOfWatches(w *world) {
	t := w.t
	var requests []storage.NewWatch
	for i := range 1000 {
		requests = append(requests, w.request(fmt.Sprintf("%032x", i/2)))
	}
	watches := must(w.CreateWatches(t.Context(), requests))(t)
	for i, watch := range watches {
		if watch.Operation.ID != requests[i].OperationID || watch.Status != storage.WatchWatching ||
			!slices.Equal(watch.DestinationIDs, requests[i].DestinationIDs) {
			t.Fatalf("watch %d: %+v", i, watch)
		}
	}
	want(t, "operations", len(w.take(t)), 500)

	requests[999].DestinationIDs = []string{"destination_none"}
	_, err := w.CreateWatches(t.Context(), requests)
	wantError(t, "unknown destination", err, storage.ErrNotFound)
	all := must(w.Watches(t.Context(), storage.WatchFilter{TenantID: w.tenant}, storage.Page{Limit: 2000}))(t)
	want(t, "watches after a refused batch", len(all.Data), 1000)
	want(t, "watches of no request", len(must(w.CreateWatches(t.Context(), nil))(t)), 0)
}

// What a registration returns is what is read of its watches, whatever is known of
// their operations by then.
func testMadeIsWhatIsRead(w *world) {
	t := w.t
	w.watch(t, "known")
	poll := w.take(t)[0]
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
		RowID: poll.RowID, At: start.Add(time.Second), Next: start.Add(time.Minute), Status: storage.OperationRunning, Error: "so far",
		Problem: "slow", CompletedAt: start,
	}}))
	w.clock.advance(1500*time.Millisecond + 999)
	made := func() []storage.Watch {
		t.Helper()
		plain, full := w.request("known"), w.request("new")
		full.Name = "full"
		plain.Metadata, plain.Events, plain.DestinationIDs = nil, nil, nil
		full.DestinationIDs = append(full.DestinationIDs, w.newBot(t).ID, w.newWebhook(t, w.tenant, false).ID)
		made := must(w.CreateWatches(t.Context(), []storage.NewWatch{plain, full}))(t)
		for _, watch := range made {
			if diff := cmp.Diff(w.reload(t, watch), watch); diff != "" {
				t.Errorf("-read +made:\n%s", diff)
			}
		}
		return made
	}
	want(t, "polls of a known operation", made()[0].Polls, 1)
	until := w.clock.Now().Add(time.Hour)
	check(t, w.ParkBudget(t.Context(), w.credential.BudgetID, until))
	want(t, "next poll of a parked budget", made()[1].NextPollAt, until.Truncate(time.Microsecond))
}

func testWatchEndings(w *world) {
	t := w.t
	completed, expired, canceled, gone := w.watch(t, "1"), w.watch(t, "2"), w.watch(t, "3"), w.watch(t, "4")
	want(t, "next poll", completed.NextPollAt, start)
	for _, poll := range w.take(t) {
		switch poll.OperationID {
		case "1":
			w.end(t, poll, storage.WatchCompleted)
		case "4":
			check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
				RowID: poll.RowID, At: start, End: storage.WatchUnobservable, RefusedReason: storage.ReasonNotFound,
			}}))
		}
	}
	must(w.CancelWatch(t.Context(), w.tenant, canceled.ID))(t)
	w.clock.advance(time.Hour)
	want(t, "expired before a last poll", must(w.ExpireWatches(t.Context(), 10))(t), 0)
	w.expire(t, 1)
	want(t, "expired again", must(w.ExpireWatches(t.Context(), 10))(t), 0)

	for _, ended := range []struct {
		watch        storage.Watch
		status, kind string
	}{
		{completed, storage.WatchCompleted, storage.EventOperationCompleted},
		{expired, storage.WatchExpired, storage.EventOperationExpired},
		{gone, storage.WatchUnobservable, storage.EventOperationUnobservable},
		{canceled, storage.WatchCanceled, ""},
	} {
		got := w.reload(t, ended.watch)
		want(t, "status", got.Status, ended.status)
		want(t, "event of "+ended.status, got.EventID != "", ended.kind != "")
		want(t, "next poll of "+ended.status, got.NextPollAt, time.Time{})
		if got.FinishedAt.IsZero() {
			t.Errorf("%s: not finished", ended.status)
		}
		if ended.kind != "" {
			want(t, "type", must(w.Event(t.Context(), w.tenant, got.EventID))(t).Type, ended.kind)
		}
		again := must(w.CancelWatch(t.Context(), w.tenant, got.ID))(t)
		want(t, "status after a cancel", again.Status, ended.status)
	}
	want(t, "events", len(w.feed(t, w.tenant)), 3)
	want(t, "operations still polled", len(w.take(t)), 0)
}

// testOperationPeriods: a closed operation is history, and a later watch on the
// same id is polled anew.
func testOperationPeriods(w *world) {
	t := w.t
	first := w.watch(t, "1")
	old := w.take(t)[0]
	w.end(t, old, storage.WatchFailed)
	second := w.watch(t, "1")
	fresh := w.take(t)[0]
	if fresh.RowID == old.RowID || fresh.Polls != 0 || fresh.Status != "" {
		t.Errorf("the second period: %+v", fresh)
	}
	w.end(t, old, storage.WatchCompleted) // late, and about the first period
	want(t, "first", w.reload(t, first).Status, storage.WatchFailed)
	want(t, "operation of the first", w.reload(t, first).Operation.Status, storage.OperationFailed)
	want(t, "second", w.reload(t, second).Status, storage.WatchWatching)

	third := w.watch(t, "1")
	must(w.CancelWatch(t.Context(), w.tenant, second.ID))(t)
	want(t, "polled for who is left", len(w.take(t)), 1)
	must(w.CancelWatch(t.Context(), w.tenant, third.ID))(t)
	want(t, "polled for nobody", len(w.take(t)), 0)
}

func testPollResults(w *world) {
	t := w.t
	watch := w.watch(t, "1")
	poll := w.take(t)[0]
	results := []storage.PollResult{
		{Status: storage.OperationRunning, CredentialAccepted: true},
		{Problem: "HTTP 404 \x00", RefusedSince: start, RefusedReason: storage.ReasonNotFound},
	}
	for i, r := range results {
		r.RowID, r.At = poll.RowID, w.clock.advance(time.Second)
		r.Next = r.At.Add(time.Minute)
		check(t, w.RecordPolls(t.Context(), []storage.PollResult{r}))
		got := w.reload(t, watch)
		want(t, "polls", got.Polls, i+1)
		want(t, "status stays when a poll is inconclusive", got.Operation.Status, storage.OperationRunning)
		want(t, "problem", got.LastPollError, strings.ReplaceAll(r.Problem, "\x00", "\uFFFD"))
		want(t, "last polled", got.LastPolledAt, r.At)
		want(t, "next poll", got.NextPollAt, r.Next)
	}
	check(t, w.ParkBudget(t.Context(), w.credential.BudgetID, start.Add(time.Hour)))
	check(t, w.ParkBudget(t.Context(), w.credential.BudgetID, start.Add(time.Minute)))
	want(t, "next poll when parked", w.reload(t, watch).NextPollAt, start.Add(time.Hour))
	w.clock.advance(2 * time.Hour)
	again := w.take(t)[0]
	want(t, "refused since", again.RefusedSince, start)
	want(t, "refused reason", again.RefusedReason, storage.ReasonNotFound)
	want(t, "polls", again.Polls, 2)
	w.end(t, again, storage.WatchCompleted)
	want(t, "completed at stands in", w.reload(t, watch).Operation.CompletedAt, w.clock.Now())
}

func testEventBodies(w *world) {
	t := w.t
	request := w.request("4da8780eeb215e6cb7f48dd981c4ea02")
	request.Name, request.Metadata = `the "first" <&>`, map[string]string{"b": "<&>", "a": "\u2028"}
	watch := must(w.CreateWatches(t.Context(), []storage.NewWatch{request}))(t)[0]
	poll := w.take(t)[0]
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
		RowID: poll.RowID, At: start.Add(100 * time.Millisecond), Status: storage.OperationFailed, UpstreamStatus: "stopped", End: storage.WatchFailed,
		Error: `at the "maximum"`, CompletedAt: time.Date(2020, 1, 1, 8, 0, 0, 0, time.UTC),
	}}))
	event := must(w.Event(t.Context(), w.tenant, w.reload(t, watch).EventID))(t)
	want(t, "body", string(event.Body), `{"type":"operation.failed","timestamp":"2026-11-23T10:00:00.123456Z",`+
		`"data":{"watch_id":"`+watch.ID+`","operation":{"source":"cloudflare.lists",`+
		`"account_id":"`+strings.Repeat("a", 32)+`","params":{"account_id":"`+strings.Repeat("a", 32)+`"},"id":"4da8780eeb215e6cb7f48dd981c4ea02",`+
		`"upstream_status":"stopped","status":"failed","error":"at the \"maximum\"","completed_at":"2020-01-01T08:00:00Z"},`+
		`"reason":null,"observed_at":"2026-11-23T10:00:00.223456Z","polls":1,`+
		`"name":"the \"first\" <&>","metadata":{"a":"\u2028","b":"<&>"}}}`)
	due := w.deliveries(t, w.destination)
	if len(due) != 1 || !bytes.Equal(due[0].Body, event.Body) || due[0].EventID != event.ID {
		t.Errorf("due: %+v", due)
	}

	silent := w.request("2")
	silent.Events, silent.Metadata = []string{storage.EventOperationFailed}, nil
	watch = must(w.CreateWatches(t.Context(), []storage.NewWatch{silent}))(t)[0]
	w.clock.advance(time.Hour)
	w.expire(t, 1)
	event = must(w.Event(t.Context(), w.tenant, w.reload(t, watch).EventID))(t)
	want(t, "body", string(event.Body), `{"type":"operation.expired","timestamp":"2026-11-23T11:06:00.123456Z",`+
		`"data":{"watch_id":"`+watch.ID+`","operation":{"source":"cloudflare.lists",`+
		`"account_id":"`+strings.Repeat("a", 32)+`","params":{"account_id":"`+strings.Repeat("a", 32)+`"},"id":"2","upstream_status":null,"status":null,"error":null,"completed_at":null},`+
		`"reason":"deadline","observed_at":"2026-11-23T11:06:00.123456Z","polls":0,"name":null,"metadata":{}}}`)
	want(t, "deliveries of an event that is not wanted", len(w.deliveries(t, w.destination)), 1)
}

func testLists(w *world) {
	t := w.t
	var ids []string
	for i := range 5 {
		ids = append(ids, w.watch(t, strconv.Itoa(i%2)).ID)
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	var seen []string
	for page := (storage.Page{Limit: 2}); ; {
		list := must(w.Watches(t.Context(), storage.WatchFilter{TenantID: w.tenant, Statuses: []string{storage.WatchWatching}}, page))(t)
		for _, watch := range list.Data {
			seen = append(seen, watch.ID)
		}
		if page.After = list.Next; page.After == "" {
			break
		}
	}
	if !slices.Equal(seen, ids) {
		t.Errorf("pages: %v, want %v", seen, ids)
	}
	for _, f := range []struct {
		filter storage.WatchFilter
		n      int
	}{
		{storage.WatchFilter{OperationID: "0"}, 3},
		{storage.WatchFilter{AccountID: strings.Repeat("a", 32)}, 5},
		{storage.WatchFilter{AccountID: "b"}, 0},
		{storage.WatchFilter{Statuses: []string{storage.WatchFailed}}, 0},
	} {
		f.filter.TenantID = w.tenant
		list := must(w.Watches(t.Context(), f.filter, storage.Page{Limit: 50}))(t)
		want(t, fmt.Sprintf("%+v", f.filter), len(list.Data), f.n)
	}
	want(t, "credentials", len(must(w.Credentials(t.Context(), w.tenant, storage.Page{Limit: 5}))(t).Data), 1)
	want(t, "destinations", len(must(w.Destinations(t.Context(), w.tenant, storage.Page{Limit: 5}))(t).Data), 1)
	_, err := w.Events(t.Context(), storage.FeedFilter{TenantID: w.tenant, After: "event_none"}, 1)
	wantError(t, "after an unknown event", err, storage.ErrNotFound)
}

// testJoiningWatches: a watch on an operation that is watched already costs a
// poll of its own, unless the operation was polled just now.
func testJoiningWatches(w *world) {
	t := w.t
	w.watch(t, "1")
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
		RowID: w.take(t)[0].RowID, At: w.clock.Now(), Next: w.clock.Now().Add(time.Minute), Status: storage.OperationRunning,
	}}))
	w.clock.advance(500 * time.Millisecond)
	w.watch(t, "1")
	want(t, "due just after a poll", len(w.take(t)), 0)
	w.clock.advance(time.Second)
	w.watch(t, "1")
	want(t, "due later", len(w.take(t)), 1)
}

// testTexts: whatever is in a text, it comes back as it was.
func testTexts(w *world) {
	t := w.t
	var requests []storage.NewWatch
	for _, text := range []string{``, `NULL`, `"`, `\`, `\"`, `{a,b}`, `a b`, `'`, "a\nb\tc", `\x00`, `é ☃ 🙂`, `$1 ?1`} {
		n := w.request(text)
		n.Metadata = map[string]string{text: text}
		requests = append(requests, n)
	}
	for i, watch := range must(w.CreateWatches(t.Context(), requests))(t) {
		got := w.reload(t, watch)
		want(t, "operation", got.Operation.ID, requests[i].OperationID)
		want(t, "metadata", fmt.Sprint(got.Metadata), fmt.Sprint(requests[i].Metadata))
	}
	for _, p := range w.take(t) {
		check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
			RowID: p.RowID, At: w.clock.Now(), Status: storage.OperationFailed, Error: p.OperationID, End: storage.WatchFailed,
		}}))
	}
	for _, d := range w.deliveries(t, w.destination) {
		var body struct {
			Data struct {
				Operation struct {
					ID    string `json:"id"`
					Error string `json:"error"`
				} `json:"operation"`
			} `json:"data"`
		}
		check(t, json.Unmarshal(d.Body, &body))
		want(t, "error", body.Data.Operation.Error, body.Data.Operation.ID)
	}
}

// Each event belongs to the trace of its own watch, the polls that watches share
// to the trace of the first. A redelivery changes nothing of that.
func testTraces(w *world) {
	t := w.t
	const first, second = "00-1-1-01", "00-2-2-01" // opaque here
	var requests []storage.NewWatch
	for _, traceparent := range []string{first, second, ""} {
		request := w.request("shared")
		request.Traceparent = traceparent
		requests = append(requests, request)
	}
	requests = append(requests, w.request("untraced"))
	watches := must(w.CreateWatches(t.Context(), requests))(t)
	again := w.request("untraced")
	again.Traceparent = second
	watches = append(watches, must(w.CreateWatches(t.Context(), []storage.NewWatch{again}))(t)...)

	polls := map[string]string{}
	for _, poll := range w.take(t) {
		polls[poll.OperationID] = poll.Traceparent
		w.end(t, poll, storage.WatchCompleted)
	}
	if wanted := map[string]string{"shared": first, "untraced": ""}; !maps.Equal(polls, wanted) {
		t.Errorf("polls are in %v, want %v", polls, wanted)
	}
	wanted := map[string]string{
		watches[0].ID: first, watches[1].ID: second, watches[2].ID: "", watches[3].ID: "", watches[4].ID: second,
	}
	w.wantTraces(wanted)
	for _, due := range w.deliveries(t, w.destination) {
		w.record(t, w.attempt(due, storage.DeliveryFailed, 0))
		must(w.Redeliver(t.Context(), w.tenant, due.ID))(t)
	}
	w.wantTraces(wanted)
}

// wantTraces wants a delivery for each watch, in its trace.
func (w *world) wantTraces(wanted map[string]string) {
	w.t.Helper()
	traces := map[string]string{}
	for _, due := range w.deliveries(w.t, w.destination) {
		traces[due.WatchID] = due.Traceparent
	}
	if !maps.Equal(traces, wanted) {
		w.t.Errorf("deliveries are in %v, want %v", traces, wanted)
	}
}
