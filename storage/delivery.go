package storage

import (
	"context"
	"time"

	"oprelay/storage/sqldb"
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

// selectDelivery is for scanDelivery. While the destination pauses, its deliveries are due
// when the pause ends.
const selectDelivery = `SELECT id, event_id, event_type, watch_id, destination_id, status, attempts_made,
	next_attempt_at, CASE WHEN status = 'pending'
		THEN (SELECT paused_until FROM destinations WHERE destinations.id = deliveries.destination_id) END,
	created_at, finished_at FROM deliveries `

func (db *database) scanDelivery(row sqldb.Row) (Delivery, error) {
	var d Delivery
	var pausedUntil time.Time
	err := row.Scan(&d.ID, &d.EventID, &d.EventType, sqldb.Text(&d.WatchID), &d.DestinationID, &d.Status,
		&d.AttemptsMade, sqldb.Time(&d.NextAttemptAt), sqldb.Time(&pausedUntil), sqldb.Time(&d.CreatedAt), sqldb.Time(&d.FinishedAt))
	if pausedUntil.After(d.NextAttemptAt) {
		d.NextAttemptAt = pausedUntil
	}
	d.NextAttemptAt = db.dated(d.NextAttemptAt)
	return d, err
}

func scanAttempt(row sqldb.Row) (Attempt, error) {
	var a Attempt
	var micros int64
	err := row.Scan(&a.Number, sqldb.Time(&a.StartedAt), &micros, &a.StatusCode, &a.Error, &a.ResponseBody)
	a.Duration = time.Duration(micros) * time.Microsecond
	return a, err
}

// Delivery returns one delivery of the tenant and its attempts, oldest first.
func (s *Store) Delivery(ctx context.Context, tenantID, id string) (_ Delivery, _ []Attempt, err error) {
	defer wrapf(&err, "delivery %s", id)
	d, err := s.db.readDelivery(ctx, s.reader(), tenantID, id)
	if err != nil {
		return Delivery{}, nil, err
	}
	attempts, err := sqldb.All(ctx, s.reader(), scanAttempt, `SELECT number, started_at, duration, status_code,
		error, response_body FROM attempts WHERE delivery_id = $1 ORDER BY number`, id)
	return d, attempts, err
}

func (db *database) readDelivery(ctx context.Context, q sqldb.Querier, tenantID, id string) (Delivery, error) {
	return sqldb.One(ctx, q, db.scanDelivery, selectDelivery+`WHERE tenant_id = $1 AND id = $2`, tenantID, id)
}
