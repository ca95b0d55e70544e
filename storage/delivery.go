package storage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The states of a delivery.
const (
	DeliveryPending   = "pending"
	DeliveryHeld      = "held" // its destination is disabled
	DeliverySucceeded = "succeeded"
	DeliveryFailed    = "failed"
	DeliveryCanceled  = "canceled"
)

// Delivery is the obligation to get one event to one destination.
type Delivery struct {
	ID            string
	EventID       string
	EventType     string
	WatchID       string
	DestinationID string
	Status        string
	AttemptsMade  int
	NextAttemptAt time.Time // zero unless pending
	CreatedAt     time.Time
	FinishedAt    time.Time
}

// Attempt is one try of a delivery.
type Attempt struct {
	Number       int // from 1
	StartedAt    time.Time
	Duration     time.Duration
	StatusCode   int // 0 when there was no answer
	Error        string
	ResponseBody []byte
}

// DeliveryFilter narrows a list of deliveries; an empty field does not.
type DeliveryFilter struct {
	TenantID      string // required
	WatchID       string
	DestinationID string
	EventID       string
	Status        string
}

const selectDelivery = `SELECT id, event_id, event_type, watch_id, destination_id, status, attempts_made,
	next_attempt_at, created_at, finished_at FROM deliveries `

func (db *database) scanDelivery(row scanner) (Delivery, error) {
	var d Delivery
	err := row.Scan(&d.ID, &d.EventID, &d.EventType, textColumn{&d.WatchID}, &d.DestinationID, &d.Status,
		&d.AttemptsMade, timeColumn{&d.NextAttemptAt}, timeColumn{&d.CreatedAt}, timeColumn{&d.FinishedAt})
	d.NextAttemptAt = db.dated(d.NextAttemptAt)
	return d, err
}

func scanAttempt(row scanner) (Attempt, error) {
	var a Attempt
	var micros int64
	err := row.Scan(&a.Number, timeColumn{&a.StartedAt}, &micros, &a.StatusCode, &a.Error, &a.ResponseBody)
	a.Duration = time.Duration(micros) * time.Microsecond
	return a, err
}

// Delivery returns one delivery of the tenant and its attempts, oldest first.
func (s *Store) Delivery(ctx context.Context, tenantID, id string) (Delivery, []Attempt, error) {
	d, err := s.db.readDelivery(ctx, s.reader(), tenantID, id)
	if err != nil {
		return Delivery{}, nil, fmt.Errorf("delivery %s: %w", id, err)
	}
	attempts, err := queryAll(ctx, s.reader(), scanAttempt, `SELECT number, started_at, duration, status_code,
		error, response_body FROM attempts WHERE delivery_id = $1 ORDER BY number`, id)
	if err != nil {
		return Delivery{}, nil, fmt.Errorf("attempts of %s: %w", id, err)
	}
	return d, attempts, nil
}

func (db *database) readDelivery(ctx context.Context, q querier, tenantID, id string) (Delivery, error) {
	return queryOne(ctx, q, db.scanDelivery, selectDelivery+`WHERE tenant_id = $1 AND id = $2`, tenantID, id)
}

// eventOfWatch is the one event that a watch makes: its deliveries are found by it.
const eventOfWatch = `SELECT event_id FROM watches WHERE id = `

// Deliveries lists the tenant's deliveries, newest first.
func (s *Store) Deliveries(ctx context.Context, f DeliveryFilter, page Page) (List[Delivery], error) {
	if f.DestinationID != "" {
		// The index has all of a destination's: how long it took to find none of them
		// the tenant's would tell how many another tenant has.
		_, err := queryOne(ctx, s.reader(), scanString, `SELECT id FROM destinations WHERE tenant_id = $1 AND id = $2`,
			f.TenantID, f.DestinationID)
		if errors.Is(err, ErrNotFound) {
			return List[Delivery]{}, nil
		}
		if err != nil {
			return List[Delivery]{}, fmt.Errorf("list deliveries: %w", err)
		}
	}
	deliveries, err := queryPage(ctx, s.reader(), pageQuery[Delivery]{
		selection: selectDelivery + `WHERE TRUE`, scan: s.db.scanDelivery, id: func(d Delivery) string { return d.ID },
		idColumn: "id", tenant: filter{column: "tenant_id", value: f.TenantID}, page: page, filters: []filter{
			{"event_id", f.WatchID, eventOfWatch},
			{"destination_id", f.DestinationID, ""},
			{"event_id", f.EventID, ""},
			{"status", f.Status, ""},
		},
	})
	if err != nil {
		return List[Delivery]{}, fmt.Errorf("list deliveries: %w", err)
	}
	return deliveries, nil
}
