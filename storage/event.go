package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The types of event.
const (
	EventOperationCompleted    = "operation.completed"
	EventOperationFailed       = "operation.failed"
	EventOperationExpired      = "operation.expired"
	EventOperationUnobservable = "operation.unobservable"
	EventDestinationTest       = "destination.test"
	EventDestinationDisabled   = "destination.disabled"
	EventCredentialRejected    = "credential.rejected" //nolint:gosec // no credential
)

// Event is an immutable fact, mostly about a watch.
type Event struct {
	ID        string
	TenantID  string
	Type      string
	WatchID   string // "" for an event that is not about a watch
	CreatedAt time.Time
	Body      []byte // the exact bytes that are sent
}

const selectEvent = `SELECT id, tenant_id, type, watch_id, created_at, body FROM events `

func scanEvent(row scanner) (Event, error) {
	var e Event
	err := row.Scan(&e.ID, &e.TenantID, &e.Type, textColumn{&e.WatchID}, timeColumn{&e.CreatedAt}, &e.Body)
	return e, err
}

// Event returns one event of the tenant.
func (s *Store) Event(ctx context.Context, tenantID, id string) (Event, error) {
	e, err := queryOne(ctx, s.reader(), scanEvent, selectEvent+`WHERE tenant_id = $1 AND id = $2`, tenantID, id)
	if err != nil {
		return Event{}, fmt.Errorf("event %s: %w", id, err)
	}
	return e, nil
}

// Events is the tenant's feed, oldest first, from the event after the given id
// ("" for the beginning). Who follows List.Next misses none: events are
// numbered in the order of commits. ErrNotFound if after is no event of the tenant.
func (s *Store) Events(ctx context.Context, tenantID, after string, limit int) (List[Event], error) {
	var seq int64
	if after != "" {
		var err error
		if seq, err = queryOne(ctx, s.reader(), scanInt, `SELECT seq FROM events WHERE tenant_id = $1 AND id = $2`,
			tenantID, after); err != nil {
			return List[Event]{}, fmt.Errorf("events after %s: %w", after, err)
		}
	}
	limit = max(limit, 1)
	events, err := queryAll(ctx, s.reader(), scanEvent,
		selectEvent+`WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, tenantID, seq, limit+1)
	if err != nil {
		return List[Event]{}, fmt.Errorf("events: %w", err)
	}
	return cut(events, limit, func(e Event) string { return e.ID }), nil
}

// event is an event to be written, and whom it is for.
type event struct {
	id           string // made by publish if it is ""
	tenantID     string
	kind         string
	watchID      string
	traceparent  string
	body         []byte
	destinations []recipient
}

// recipient is a destination that gets a delivery.
type recipient struct {
	id       string
	disabled bool
	bot      bool // may have a message of the watch; known of the recipients of its end
}

// publish writes events, and a delivery for each of their destinations.
func (tx *transaction) publish(ctx context.Context, events []event) error {
	if len(events) == 0 {
		return nil
	}
	after, err := tx.numberEvents(ctx, events)
	if err != nil {
		return err
	}
	now, due := tx.db.now(), tx.db.steady()
	var eventRows, deliveryRows [][]any
	for i := range events {
		e := &events[i]
		if e.id == "" {
			e.id = newID(prefixEvent)
		}
		eventRows = append(eventRows, []any{
			e.id, e.tenantID, after[i], e.kind, nullable(e.watchID), now.UnixMicro(), e.body, nullable(e.traceparent),
		})
		for _, to := range e.destinations {
			status, next := DeliveryPending, instant(due)
			if to.disabled {
				status, next = DeliveryHeld, instant(time.Time{})
			}
			tx.markDue(Group{DeliverGroup, to.id}, due) // held too: it may have been enabled meanwhile, see settle
			deliveryRows = append(deliveryRows, []any{
				newID(prefixDelivery), e.tenantID, e.id, e.kind, nullable(e.watchID), to.id, status, next, now.UnixMicro(),
			})
		}
	}
	err = tx.insertFrom(`INSERT INTO events (id, tenant_id, seq, type, watch_id, created_at, body, traceparent)`,
		`column1, column2, (SELECT event_seq FROM tenants WHERE id = column2) - column3, column4, column5, column6, column7, column8`,
		eventRows)
	if err != nil {
		return err
	}
	return tx.insertRows(`INSERT INTO deliveries (id, tenant_id, event_id, event_type, watch_id, destination_id,
		status, next_attempt_at, created_at)`, deliveryRows)
}

// numberEvents counts each tenant's events, and says of each event how many of its tenant's
// come after it. The tenant's row stays locked until the commit, which makes seq the order
// of commits; its events get their seq from there, so that nobody has to ask for it meanwhile.
func (tx *transaction) numberEvents(ctx context.Context, events []event) (after []int, err error) {
	counts := map[string]int{}
	after = make([]int, len(events))
	for i, e := range slices.Backward(events) {
		after[i] = counts[e.tenantID]
		counts[e.tenantID]++
	}
	for _, tenantID := range slices.Sorted(maps.Keys(counts)) {
		if err := tx.later(ctx, `UPDATE tenants SET event_seq = event_seq + $1 WHERE id = $2`, counts[tenantID], tenantID); err != nil {
			return nil, err
		}
	}
	return after, nil
}

// alert publishes an event to the tenant's alerts destinations but one.
func (tx *transaction) alert(ctx context.Context, e event, except string) error {
	recipients, err := queryAll(ctx, tx, scanRecipient, `SELECT id, status FROM destinations
		WHERE tenant_id = $1 AND alerts AND deleted_at IS NULL AND id <> $2 ORDER BY id`, e.tenantID, except)
	if err != nil {
		return err
	}
	e.destinations = recipients
	return tx.publish(ctx, []event{e})
}

func scanRecipient(row scanner) (recipient, error) {
	var r recipient
	var status string
	err := row.Scan(&r.id, &status)
	r.disabled = status == DestinationDisabled
	return r, err
}
