package storage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrDestinationDeleted says that a delivery cannot go out again, because its
// destination is deleted.
var ErrDestinationDeleted = errors.New("destination deleted")

// Redeliver makes a delivery pending again, due now, its schedule from the
// start; held if its destination is disabled. The attempts go on being counted.
// ErrDestinationDeleted if there is nowhere to send it any more.
func (s *Store) Redeliver(ctx context.Context, tenantID, id string) (again Delivery, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		d, err := tx.db.readDelivery(ctx, tx, tenantID, id)
		if err != nil {
			return err
		}
		destination, err := tx.lockDestination(ctx, tenantID, d.DestinationID)
		if errors.Is(err, ErrNotFound) {
			return ErrDestinationDeleted
		}
		if err != nil {
			return err
		}
		status, due := tx.resumed(destination)
		err = exec(ctx, tx, `UPDATE deliveries SET status = $1, step = 0, next_attempt_at = $2, finished_at = NULL
			WHERE id = $3`, status, due, id)
		if err != nil {
			return err
		}
		again, err = tx.db.readDelivery(ctx, tx, tenantID, id)
		return err
	})
	if err != nil {
		return Delivery{}, fmt.Errorf("redeliver %s: %w", id, err)
	}
	return again, nil
}

// resumed is the status and the due time of a delivery that is to go out now,
// to a destination that is locked.
func (tx *transaction) resumed(destination Destination) (status string, due any) {
	if destination.Status == DestinationDisabled {
		return DeliveryHeld, nil
	}
	now := tx.db.steady()
	tx.markDue(Group{DeliverGroup, destination.ID}, now)
	return DeliveryPending, now.UnixMicro()
}

// givenUpOf finds what the destination $1 was to get, made from $4 to $5, and that
// failed or was canceled.
const givenUpOf = `SELECT id FROM deliveries WHERE destination_id = $1 AND created_at >= $4 AND created_at <= $5
	AND status IN ('failed', 'canceled')`

// Recover redelivers what a destination has not accepted of the events made
// from since to until (now, if zero), and says how many these are. What failed
// or was canceled begins its schedule anew, what is pending is due now, what is
// held stays held.
func (s *Store) Recover(ctx context.Context, tenantID, id string, since, until time.Time) (count int, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		destination, err := tx.lockDestination(ctx, tenantID, id)
		if err != nil {
			return err
		}
		last := earliestSet(until, tx.db.now())
		status, due := tx.resumed(destination)
		count, err = execCount(ctx, tx, `UPDATE deliveries
			SET status = $2, next_attempt_at = $3, finished_at = NULL, step = CASE WHEN status = 'pending' THEN step ELSE 0 END
			WHERE created_at >= $4 AND created_at <= $5 AND status <> 'succeeded'
			AND id IN (`+pendingOf+` UNION ALL `+heldOf+` UNION ALL `+givenUpOf+`)`,
			id, status, due, since.UnixMicro(), last.UnixMicro())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("recover destination %s: %w", id, err)
	}
	return count, nil
}

// TestDestination makes a destination.test event and its delivery, which is
// held if the destination is disabled.
func (s *Store) TestDestination(ctx context.Context, tenantID, id string) (made Delivery, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		d, err := tx.lockDestination(ctx, tenantID, id)
		if err != nil {
			return err
		}
		body, err := renderBody(EventDestinationTest, tx.db.now(), destinationTestData{DestinationID: id, Name: d.Name})
		if err != nil {
			return err
		}
		test := event{
			id: newID(prefixEvent), tenantID: tenantID, kind: EventDestinationTest, body: body,
			destinations: []recipient{{id: id, disabled: d.Status == DestinationDisabled}},
		}
		if err := tx.publish(ctx, []event{test}); err != nil {
			return err
		}
		made, err = queryOne(ctx, tx, tx.db.scanDelivery, selectDelivery+`WHERE event_id = $1`, test.id)
		return err
	})
	if err != nil {
		return Delivery{}, fmt.Errorf("test destination %s: %w", id, err)
	}
	return made, nil
}
