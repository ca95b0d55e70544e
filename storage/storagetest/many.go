package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/storage"
)

// crowd is more watches on one operation than end in one transaction.
const crowd = 4500

// testManyWatches: of an operation that any number watches, not all end with its
// poll's result, but soon: each once, as the operation did, whatever happens meanwhile.
func testManyWatches(w *world) {
	t, other := w.t, w.open(w.t)
	w.complete(t, "1") // the id is known from an earlier operation
	watches := w.crowd(t)
	small := w.watch(t, "2")
	must(w.CancelWatch(t.Context(), w.tenant, watches[7].ID))(t)
	results := []storage.PollResult{}
	for _, poll := range w.take(t) {
		results = append(results, storage.PollResult{
			RowID: poll.RowID, At: w.Steady(), Status: storage.OperationFailed, Error: "too many items", End: storage.WatchFailed,
		})
	}
	check(t, w.RecordPolls(t.Context(), results))
	if n := w.Tally().Ended[storage.WatchFailed]; n == 0 || n > crowd/2 {
		t.Errorf("%d watches ended in one transaction", n)
	}

	again := w.request("1")
	again.Timeout = 24 * time.Hour
	new := must(w.CreateWatches(t.Context(), []storage.NewWatch{again}))(t)[0]
	want(t, "polls of a new watch", len(w.take(t)), 1)
	w.clock.advance(time.Hour)
	want(t, "watches past their deadline", must(w.LastPolls(t.Context(), 100))(t), 100)
	w.clock.advance(10 * time.Minute)
	want(t, "ended at their deadline", must(w.ExpireWatches(t.Context(), 100))(t), 100)
	lost := errors.New("killed")
	wantError(t, "a process that dies", w.Atomically(t.Context(), func(tx *storage.Store) error {
		_, err := tx.EndRest(t.Context(), 500)
		return errors.Join(err, lost)
	}), lost)
	together(t, 2, func(ctx context.Context, i int) error {
		for {
			if n, err := []*storage.Store{w.Store, other}[i].EndRest(ctx, 500); err != nil || n == 0 {
				return err
			}
		}
	})

	checkEnd(t, w, small)
	want(t, "the new watch", w.reload(t, new).Status, storage.WatchWatching)
	want(t, "polls of the new watch", len(w.take(t)), 1)
	w.checkCrowd(t, slices.Concat(watches[:7], watches[8:]))
}

// crowd registers it.
func (w *world) crowd(t *testing.T) (watches []storage.Watch) {
	t.Helper()
	for chunk := range slices.Chunk(slices.Repeat([]storage.NewWatch{w.request("1")}, crowd), 1000) {
		watches = append(watches, must(w.CreateWatches(t.Context(), chunk))(t)...)
	}
	return watches
}

// checkCrowd checks that each has one event, which tells what the poll told.
func (w *world) checkCrowd(t *testing.T, watches []storage.Watch) {
	t.Helper()
	told := map[string]int{}
	for after := ""; ; {
		page := must(w.Events(t.Context(), w.tenant, after, 1000))(t)
		for _, e := range page.Data {
			told[e.WatchID]++
			if told[e.WatchID] == 1 && !strings.Contains(string(e.Body), fmt.Sprintf(`"observed_at":%q`, start.Format(time.RFC3339Nano))) {
				t.Fatalf("%s: another end, or another time", e.Body)
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	failed := 0
	for _, watch := range watches {
		failed += told[watch.ID]
		if told[watch.ID] != 1 {
			t.Fatalf("%d events of a watch", told[watch.ID])
		}
	}
	want(t, "events", failed, crowd-1)
	want(t, "deliveries", len(w.deliveries(t, w.destination)), crowd+1) // with the other operations'
	want(t, "failed", w.Tally().Ended[storage.WatchExpired], 0)
}
