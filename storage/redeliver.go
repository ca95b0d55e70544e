package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Recovery is which deliveries to recover: those of events made from Since to Until
// (now, if zero).
type Recovery struct {
	TenantID      string
	DestinationID string
	Since         time.Time
	Until         time.Time
}

// notAccepted finds what the destination $1 has not accepted, made from $2 to $3.
const (
	notAccepted = pendingFirst + madeThen + ` UNION ALL ` + pendingAgain + madeThen + ` UNION ALL ` + heldOf + madeThen + ` UNION ALL
		SELECT id FROM deliveries WHERE destination_id = $1 AND status IN ('failed', 'canceled')` + madeThen
	madeThen = ` AND created_at >= $2 AND created_at <= $3`
)

// Recover redelivers what a destination has not accepted as of now, each once, and
// says how many these are. What failed or was canceled begins its schedule anew,
// what is pending is due now, what is held stays held. It takes a transaction for
// each thousand (Config.MoveMost), and keeps nothing in memory but their ids. each is
// called in every one, with the count up to then and whether it is the last; it may be
// nil, and may run again. After a failure some have been redelivered, and all may be
// recovered again.
func (s *Store) Recover(ctx context.Context, r Recovery, each func(tx *Store, count int, last bool) error) (count int, err error) {
	var ids []string
	_, err = s.Destination(ctx, r.TenantID, r.DestinationID) // of another tenant's nothing is read
	if err == nil {
		ids, err = queryAll(ctx, s.reader(), scanString, notAccepted,
			r.DestinationID, r.Since.UnixMicro(), earliestSet(r.Until, s.db.now()).UnixMicro())
	}
	slices.Sort(ids)
	for done := false; err == nil && !done; {
		chunk := ids[:min(len(ids), s.db.moveMost)]
		ids = ids[len(chunk):]
		done = len(ids) == 0
		var moved int
		err = s.Atomically(ctx, func(tx *Store) (err error) {
			if moved, err = tx.tx.redeliver(ctx, r, chunk); err != nil || each == nil {
				return err
			}
			return each(tx, count+moved, done)
		})
		count += moved
	}
	if err != nil {
		return 0, fmt.Errorf("recover destination %s: %w", r.DestinationID, err)
	}
	return count, nil
}

// redeliver has those of the deliveries go out again that were not accepted meanwhile.
func (tx *transaction) redeliver(ctx context.Context, r Recovery, ids []string) (int, error) {
	destination, err := tx.lockDestination(ctx, r.TenantID, r.DestinationID)
	if err != nil {
		return 0, err
	}
	status, due := tx.resumed(destination)
	args := arguments{status, due}
	return execCount(ctx, tx, `UPDATE deliveries
		SET status = $1, next_attempt_at = $2, finished_at = NULL, step = CASE WHEN status = 'pending' THEN step ELSE 0 END
		WHERE status <> 'succeeded' AND `+tx.db.dialect.in(&args, "id", ids), args...)
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
