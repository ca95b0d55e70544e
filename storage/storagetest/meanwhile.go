package storagetest

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"oprelay/storage"
)

// testOpenedAtOneMoment: who opens a destination while it is changed gets the
// secrets that go with the URL, lest one receiver be sent another's.
func testOpenedAtOneMoment(w *world) {
	t := w.t
	id := w.destination.ID
	change := func(ctx context.Context, n int) error {
		url, headers := fmt.Sprint("https://example.com/", n), map[string]string{"N": strconv.Itoa(n)}
		_, err := w.UpdateDestination(ctx, w.tenant, id, storage.DestinationPatch{URL: &url, Headers: &headers})
		return err
	}
	check(t, change(t.Context(), 0))
	var changed atomic.Bool
	together(t, 2, func(ctx context.Context, i int) error {
		if i == 0 {
			defer changed.Store(true)
			for n := range 100 {
				if err := change(ctx, n); err != nil {
					return err
				}
			}
			return nil
		}
		for !changed.Load() {
			d, secret, err := w.OpenDestination(ctx, id)
			if err != nil {
				return err
			}
			if d.URL != "https://example.com/"+secret.Headers["N"] {
				return fmt.Errorf("%s with the headers %v", d.URL, secret.Headers)
			}
		}
		return nil
	})
}

// testRegisteredBesideChange: neither is a registration kept waiting by
// who is changing its destination, nor is anything left over if that deletes it.
func testRegisteredBesideChange(w *world) {
	t := w.t
	if w.Backend() == "sqlite" {
		return // has one writer at a time
	}
	other, bot := w.open(t), w.newBot(t)
	var watch storage.Watch
	check(t, other.Atomically(t.Context(), func(tx *storage.Store) error {
		for _, d := range []storage.Destination{w.destination, bot} {
			if err := tx.DeleteDestination(t.Context(), w.tenant, d.ID); err != nil {
				return err
			}
		}
		request := w.request("1")
		request.DestinationIDs = append(request.DestinationIDs, bot.ID)
		made, err := w.CreateWatches(t.Context(), []storage.NewWatch{request})
		if err == nil {
			watch = made[0]
		}
		return err
	}))
	w.end(t, w.take(t)[0], storage.WatchCompleted)
	want(t, "status", w.reload(t, watch).Status, storage.WatchCompleted)
	list := must(w.Deliveries(t.Context(), storage.DeliveryFilter{TenantID: w.tenant}, storage.Page{Limit: 5}))(t)
	want(t, "deliveries", len(list.Data), 0)
	want(t, "next work at the bot", w.groupDue(t, deliverGroup(bot)), time.Time{})
}
