package chaos

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
)

// retention is so short that most is deleted while the fault lasts. The program of these tests
// takes it, see cmd/relay.
const retention = 5 * time.Second

// Workers are killed while they delete what has ended. Nothing goes that has not been told, a
// reader of the feed misses no event, and in the end nothing is left.
func TestKilledBesideRetention(t *testing.T) {
	t.Parallel()
	f := fault{order: 3, name: "kill -9 of all workers, retention beside", inject: repeated(killAllWorkers)}
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3, "RELAY_RETENTION", retention.String())
	r.history = r.remember()
	r.endure(t, f)
}

// history is what a reader of the feed has read: the events are deleted behind it.
type history struct {
	mu     sync.Mutex
	events []client.Event
	fault  string // what the feed told that it must not
}

// remember reads the feed until the test ends.
func (r *rig) remember() *history {
	h := &history{}
	go func() {
		ctx, params := r.t.Context(), &client.ListEventsParams{Limit: new(200)}
		for ctx.Err() == nil {
			page, err := r.client.ListEventsWithResponse(ctx, params)
			if err == nil {
				if after := h.add(page); after != nil {
					params.After = after
					continue
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(again):
			}
		}
	}()
	return h
}

// add adds the events of a page, and returns the place after them: nil if there are none.
func (h *history) add(page *client.ListEventsResponse) (after *string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case page.JSON200 != nil && len(page.JSON200.Data) > 0:
		h.events = append(h.events, page.JSON200.Data...)
		return &h.events[len(h.events)-1].ID
	case page.ApplicationProblemJSON410 != nil: // what was read last is deleted: what is missed counts as lost
		return page.ApplicationProblemJSON410.BeginsAfter
	case page.JSON200 == nil && page.StatusCode() != http.StatusServiceUnavailable:
		h.fault = string(page.Body)
	}
	return nil
}

// ledger is what the feed has told, once nothing is left.
func (h *history) ledger(t *testing.T, r *rig) ledger {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		page, err := r.client.ListWatchesWithResponse(ctx, nil)
		if err == nil && page.JSON200 != nil && len(page.JSON200.Data) == 0 {
			break
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			t.Fatalf("watches are left: %v", err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fault != "" {
		t.Errorf("the reader of the feed was told: %s", h.fault)
	}
	l := ledger{watches: map[string][]client.Watch{}, events: map[string][]client.Event{}}
	for _, e := range h.events {
		if e.WatchID == nil {
			continue
		}
		var told message
		if err := json.Unmarshal(e.Body, &told); err != nil {
			t.Fatal(err)
		}
		l.events[*e.WatchID] = append(l.events[*e.WatchID], e)
		id, w := told.Data.Operation.ID, client.Watch{ID: *e.WatchID, EventID: &e.ID}
		w.Status = client.WatchStatus(strings.TrimPrefix(string(e.Type), "operation."))
		if !slices.ContainsFunc(l.watches[id], func(known client.Watch) bool { return known.ID == w.ID }) {
			l.watches[id] = append(l.watches[id], w)
		}
	}
	return l
}
