package storage

import (
	"context"
	"maps"
	"slices"
	"time"

	"oprelay/storage/sqldb"
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
	EventDeliveryFailed        = "delivery.failed"
)

// Event is an immutable fact, mostly about a watch.
type Event struct {
	ID        string
	TenantID  string
	Seq       int64 // its number in the tenant's feed, in the order of commits
	Type      string
	WatchID   string // "" for an event that is not about a watch
	CreatedAt time.Time
	Body      []byte // the exact bytes that are sent
}

const selectEvent = `SELECT id, tenant_id, seq, type, watch_id, created_at, body FROM events `

func scanEvent(row sqldb.Row) (Event, error) {
	var e Event
	err := row.Scan(prefixEvent.scan(&e.ID), prefixTenant.scan(&e.TenantID), &e.Seq, &e.Type,
		prefixWatch.scan(&e.WatchID), sqldb.Time(&e.CreatedAt), &e.Body)
	return e, err
}

// Event returns one event of the tenant.
func (s *Store) Event(ctx context.Context, tenantID, id string) (_ Event, err error) {
	defer wrapf(&err, "event %s", id)
	return sqldb.One(ctx, s.reader(), scanEvent, selectEvent+`WHERE tenant_id = $1 AND id = $2`,
		prefixTenant.arg(tenantID), prefixEvent.arg(id))
}

// event is an event to be written, and its destinations.
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
	bot      bool // a Slack bot, which may show the watch; only set for a watch that ends
}

// publish writes events, and a delivery for each of their destinations.
func (tx *transaction) publish(events []event) error {
	if len(events) == 0 {
		return nil
	}
	after, err := tx.numberEvents(events)
	if err != nil {
		return err
	}
	now, due := tx.db.now(), tx.db.steady()
	var eventRows, deliveryRows, waitingRows [][]any
	for i := range events {
		e := &events[i]
		tx.changes.event(e.tenantID)
		if e.id == "" {
			e.id = tx.db.datedID(prefixEvent, now)
		}
		eventID, tenantID, watchID := prefixEvent.arg(e.id), prefixTenant.arg(e.tenantID), prefixWatch.arg(e.watchID)
		eventRows = append(eventRows, []any{
			eventID, tenantID, after[i], e.kind, watchID, now.UnixMicro(), e.body, sqldb.Null(e.traceparent),
		})
		for _, to := range e.destinations {
			id, turn, next := tx.db.datedID(prefixDelivery, now), turnFirst, due
			if to.disabled {
				turn, next = turnHeld, time.Time{}
			}
			tx.markDue(Group{DeliverGroup, to.id}, due) // held ones too: it may have been enabled meanwhile, see applyState
			row := []any{prefixDelivery.arg(id), tenantID, eventID, prefixDestination.arg(to.id)}
			deliveryRows = append(deliveryRows, row)
			waitingRows = append(waitingRows, slices.Concat(row, []any{e.kind, watchID, now.UnixMicro(), turn, 0, sqldb.Micros(next)}))
		}
	}
	err = tx.InsertFrom(`INSERT INTO events (id, tenant_id, seq, type, watch_id, created_at, body, traceparent)`,
		`column1, column2, (SELECT event_seq FROM tenants WHERE id = column2) - column3, column4, column5, column6, column7, column8`,
		eventRows)
	if err != nil {
		return err
	}
	if err := tx.InsertRows(`INSERT INTO deliveries (`+ownDeliveryColumns+`)`, deliveryRows); err != nil {
		return err
	}
	return tx.InsertRows(`INSERT INTO waiting_deliveries (`+deliveryColumns+`, turn, attempts_made, next_attempt_at)`, waitingRows)
}

// numberEvents counts up the number of events in each tenant's row, and says of each event
// how many of its tenant's come after it. The rows stay locked until the commit, which makes
// seq the order of commits. The inserts that follow take seq from there: so the row is locked
// for one round trip, however many other transactions of the tenant wait for it.
func (tx *transaction) numberEvents(events []event) (after []int, err error) {
	counts := map[string]int{}
	after = make([]int, len(events))
	for i, e := range slices.Backward(events) {
		after[i] = counts[e.tenantID]
		counts[e.tenantID]++
	}
	for _, tenantID := range slices.Sorted(maps.Keys(counts)) {
		if err := tx.Later(`UPDATE tenants SET event_seq = event_seq + $1 WHERE id = $2`,
			counts[tenantID], prefixTenant.arg(tenantID)); err != nil {
			return nil, err
		}
	}
	return after, nil
}

// alert addresses an event to the tenant's alerts destinations but one.
func (tx *transaction) alert(ctx context.Context, e event, except string) (event, error) {
	recipients, err := sqldb.All(ctx, tx, scanRecipient, `SELECT id, status FROM destinations
		WHERE tenant_id = $1 AND alerts AND deleted_at IS NULL AND ($2 OR id <> $3) ORDER BY id`,
		prefixTenant.arg(e.tenantID), except == "", prefixDestination.arg(except))
	e.destinations = recipients
	return e, err
}

func scanRecipient(row sqldb.Row) (recipient, error) {
	var r recipient
	var status string
	err := row.Scan(prefixDestination.scan(&r.id), &status)
	r.disabled = status == DestinationDisabled
	return r, err
}

// eventBody is what a receiver gets: the order of the fields is part of the contract.
type eventBody struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      any       `json:"data"`
}

// operationEventData is the data of an event about a watch.
type operationEventData struct {
	WatchID    string             `json:"watch_id"`
	Operation  operationEventBody `json:"operation"`
	Reason     *string            `json:"reason"`
	ObservedAt time.Time          `json:"observed_at"`
	Polls      int                `json:"polls"`
	Name       *string            `json:"name"`
	Metadata   map[string]string  `json:"metadata"`
}

type operationEventBody struct {
	Source         string            `json:"source"`
	AccountID      *string           `json:"account_id"`
	Params         map[string]string `json:"params"`
	ID             string            `json:"id"`
	UpstreamStatus *string           `json:"upstream_status"`
	Status         *string           `json:"status"`
	Error          *string           `json:"error"`
	CompletedAt    *time.Time        `json:"completed_at"`
}

// destinationTestData is the data of destination.test.
type destinationTestData struct {
	DestinationID string `json:"destination_id"`
	Name          string `json:"name"`
}

// destinationDisabledData is the data of destination.disabled.
type destinationDisabledData struct {
	DestinationID string    `json:"destination_id"`
	Name          string    `json:"name"`
	Reason        string    `json:"reason"`
	DisabledAt    time.Time `json:"disabled_at"`
	LastError     *string   `json:"last_error"`
}

// credentialRejectedData is the data of credential.rejected.
type credentialRejectedData struct {
	CredentialID string    `json:"credential_id"`
	Name         string    `json:"name"`
	RefusedSince time.Time `json:"refused_since"`
	RejectedAt   time.Time `json:"rejected_at"`
}

// deliveryFailedData is the data of delivery.failed.
type deliveryFailedData struct {
	DestinationID string    `json:"destination_id"`
	Name          string    `json:"name"`
	Count         int       `json:"count"`
	Since         time.Time `json:"since"` // when the oldest of these deliveries was made
	LastError     *string   `json:"last_error"`
}

// operationBody is an operation as events show it.
func operationBody(o Operation) operationEventBody {
	body := operationEventBody{
		Source: o.Source, AccountID: optional(o.AccountID()), Params: o.Params, ID: o.ID,
		UpstreamStatus: optional(o.UpstreamStatus), Status: optional(o.Status), Error: optional(o.Error),
	}
	if !o.CompletedAt.IsZero() {
		body.CompletedAt = &o.CompletedAt
	}
	return body
}

// optional is the text for JSON, null for "".
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// renderBody makes the body of an event. It is kept as bytes, so that every attempt sends
// the same ones. All times are UTC in whole microseconds, which JSON has as RFC 3339.
func renderBody(kind string, at time.Time, data any) ([]byte, error) {
	text, err := sqldb.JSONText(eventBody{Type: kind, Timestamp: at, Data: data})
	return []byte(text), err
}
