package storagetest

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

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
