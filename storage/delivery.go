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

// The turns of a delivery that waits.
const (
	turnFirst = "first" // its first attempt since its schedule began is due
	turnAgain = "again" // a retry is
	turnHeld  = "held"
)

// deliveryColumns are those that waiting_deliveries and unaccepted_deliveries share.
const deliveryColumns = ownDeliveryColumns + `, event_type, watch_id, created_at`

// ownDeliveryColumns are those of deliveries, which every table of deliveries has. What
// else there is in the others, the event says.
const ownDeliveryColumns = `id, tenant_id, event_id, destination_id`

// selectDelivery is for scanDelivery. It selects from a table of deliveries, which
// it calls d. While a destination pauses, its deliveries are due when the pause ends.
//
// What says the state is not joined, so that it is looked up by key whatever the planner takes
// its table for, which may have been empty when it looked last.
func selectDelivery(table string) string {
	return `SELECT d.id, d.event_id, e.type, e.watch_id, d.destination_id, e.created_at,
	(SELECT CASE WHEN w.next_attempt_at < to_it.paused_until THEN to_it.paused_until ELSE COALESCE(w.next_attempt_at, 0) END
		FROM waiting_deliveries w JOIN destinations to_it ON to_it.id = w.destination_id WHERE w.id = d.id),
	(SELECT status FROM unaccepted_deliveries WHERE id = d.id), (SELECT finished_at FROM unaccepted_deliveries WHERE id = d.id),
	COALESCE(a.number, 0), a.started_at + a.duration
	FROM ` + table + ` d JOIN events e ON e.id = d.event_id
	LEFT JOIN attempts a ON a.delivery_id = d.id AND a.number = (SELECT MAX(number) FROM attempts WHERE delivery_id = d.id) `
}

// scanDelivery takes a delivery that neither waits nor is unaccepted for accepted, by its last
// attempt.
func (db *database) scanDelivery(row sqldb.Row) (Delivery, error) {
	var d Delivery
	var due, attempted time.Time
	err := row.Scan(prefixDelivery.scan(&d.ID), prefixEvent.scan(&d.EventID), &d.EventType, prefixWatch.scan(&d.WatchID),
		prefixDestination.scan(&d.DestinationID), sqldb.Time(&d.CreatedAt),
		sqldb.Time(&due), sqldb.Text(&d.Status), sqldb.Time(&d.FinishedAt), &d.AttemptsMade, sqldb.Time(&attempted))
	switch {
	case due.Equal(time.UnixMicro(0)):
		d.Status = DeliveryHeld
	case !due.IsZero():
		d.Status, d.NextAttemptAt = DeliveryPending, db.dated(due)
	case d.Status == "":
		d.Status, d.FinishedAt = DeliverySucceeded, attempted
	}
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
		error, response_body FROM attempts WHERE delivery_id = $1 ORDER BY number`, prefixDelivery.arg(id))
	return d, attempts, err
}

func (db *database) readDelivery(ctx context.Context, q sqldb.Querier, tenantID, id string) (Delivery, error) {
	return sqldb.One(ctx, q, db.scanDelivery, selectDelivery(`deliveries`)+`WHERE d.tenant_id = $1 AND d.id = $2`,
		prefixTenant.arg(tenantID), prefixDelivery.arg(id))
}
