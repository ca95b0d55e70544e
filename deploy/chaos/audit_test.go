package chaos

import (
	"context"
	"slices"
	"testing"
	"time"

	"oprelay/api/client"
)

// settle waits until every watch that has been asked for was told to all its
// destinations.
func (r *rig) settle(t *testing.T, b *books) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for now := time.Now(); ; {
		open, changed := b.open(now)
		if open == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Errorf("%d watches were not told to all their destinations within %s", open, patience)
			return
		}
	}
}

// ledger is what the API tells of all that there ever was.
type ledger struct {
	watches map[string][]client.Watch // by operation
	events  map[string][]client.Event // terminal ones, by watch
}

func (r *rig) ledger(t *testing.T) ledger {
	t.Helper()
	if r.history != nil {
		return r.history.ledger(t, r)
	}
	l := ledger{watches: map[string][]client.Watch{}, events: map[string][]client.Event{}}
	for params := (&client.ListWatchesParams{Limit: new(200)}); ; {
		page, err := r.client.ListWatchesWithResponse(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		if page.JSON200 == nil {
			t.Fatalf("list the watches: %s", page.Body)
		}
		for _, w := range page.JSON200.Data {
			l.watches[w.Operation.ID] = append(l.watches[w.Operation.ID], w)
		}
		if params.Cursor = page.JSON200.NextCursor; params.Cursor == nil {
			break
		}
	}
	for params := (&client.ListEventsParams{Limit: new(200)}); ; {
		page, err := r.client.ListEventsWithResponse(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		if page.JSON200 == nil {
			t.Fatalf("list the events: %s", page.Body)
		}
		if len(page.JSON200.Data) == 0 {
			return l
		}
		for _, e := range page.JSON200.Data {
			if e.WatchID != nil {
				l.events[*e.WatchID] = append(l.events[*e.WatchID], e)
			}
		}
		params.After = &page.JSON200.Data[len(page.JSON200.Data)-1].ID
	}
}

// audit compares the books with what the API and the receivers tell.
func (r *rig) audit(t *testing.T, b *books) row {
	t.Helper()
	told := r.ledger(t)
	var result row
	for _, e := range b.all() {
		result.watches++
		watches := told.watches[e.operation]
		if len(watches) != 1 || watches[0].ID != e.watch {
			t.Errorf("operation %s has %d watches, want one, %s", e.operation, len(watches), e.watch)
			result.lost++
			continue
		}
		events := told.events[e.watch]
		result.events += len(events)
		if w := watches[0]; w.Status != e.status || len(events) != 1 || w.EventID == nil || *w.EventID != events[0].ID {
			t.Errorf("watch %s is %s with %d events, want %s with one", e.watch, w.Status, len(events), e.status)
			result.lost++
			continue
		}
		r.auditReceipts(t, e, events[0].ID, &result)
	}
	for _, operation := range b.refused {
		if n := len(told.watches[operation]); n > 0 {
			t.Errorf("operation %s has %d watches, though its registration was answered 503", operation, n)
		}
	}
	r.receive.mu.Lock()
	defer r.receive.mu.Unlock()
	for _, wrong := range r.receive.wrong {
		t.Error(wrong)
	}
	result.refused, result.unanswered, result.memory = b.refusal, len(b.unanswered), r.memory()
	return result
}

// auditReceipts judges what the destinations of one watch got.
func (r *rig) auditReceipts(t *testing.T, e entry, event string, result *row) {
	t.Helper()
	for i, got := range r.receive.of(e.operation, e.destinations) {
		if got == nil {
			t.Errorf("event %s never arrived at %s", event, e.destinations[i])
			result.lost++
			continue
		}
		said := got.message
		if got.event != event || said.Type != "operation."+string(e.status) || said.Data.WatchID != e.watch || !equal(said.Data.Operation.Error, e.upstream) {
			t.Errorf("%s got of watch %s: event %s, %+v; want event %s, %s", got.destination, e.watch, got.event, said, event, e.status)
		}
		again := len(got.accepted) - 1
		result.doubled += again
		result.interrupted += min(again, r.ofKilled(got.accepted))
		for _, a := range got.accepted[:again] {
			if k := r.killedAt(a); k != nil {
				k.unrecorded++
				result.unrecorded = max(result.unrecorded, k.unrecorded)
			}
		}
	}
}

// killing is the end of one process.
type killing struct {
	at          time.Time
	connections []string // their local addresses: the sender's, to a receiver
	// unrecorded is how much it had sent and not recorded, for it was sent again.
	unrecorded int
}

// inFlight is how long before its kill what a process sent may still be unrecorded,
// and how long after it a receiver may still read: the time for a delivery. Later
// the address may be another process's.
const inFlight = deliveryTimeout

// ofKilled is how many of the acceptances came from processes that were being killed:
// they may not have lived to record them, so the message had to be sent again.
func (r *rig) ofKilled(accepted []acceptance) (n int) {
	for _, a := range accepted {
		if r.killedAt(a) != nil {
			n++
		}
	}
	return n
}

// killedAt is the kill of the process that sent what was accepted; nil if it lived on.
func (r *rig) killedAt(a acceptance) *killing {
	for i := range r.killed {
		if k := &r.killed[i]; a.at.Sub(k.at).Abs() <= inFlight && slices.Contains(k.connections, a.from) {
			return k
		}
	}
	return nil
}

func equal(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
