package storagetest

import (
	"maps"

	"oprelay/storage"
)

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
