package storage

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"oprelay/storage/sqldb"
)

// ErrDestinationDeleted says that a delivery cannot go out again, because its
// destination is deleted.
var ErrDestinationDeleted = errors.New("destination deleted")

// Redeliver makes a delivery pending again, due now and with its schedule from the start, or
// held if its destination is disabled. ErrDestinationDeleted if that is deleted.
func (s *Store) Redeliver(ctx context.Context, tenantID, id string) (again Delivery, err error) {
	defer wrapf(&err, "redeliver %s", id)
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
		turn, due := tx.resumed(destination)
		n, err := sqldb.ExecCount(ctx, tx, `UPDATE waiting_deliveries SET turn = $1, step = 0, postponed = 0, next_attempt_at = $2
			WHERE id = $3`, turn, due, prefixDelivery.arg(id))
		if err == nil && n == 0 {
			_, err = tx.waitAgain(ctx, []string{id}, "", turn, due)
		}
		if err != nil {
			return err
		}
		again, err = tx.db.readDelivery(ctx, tx, tenantID, id)
		return err
	})
	return again, err
}

// resumed is the turn and the due time of a delivery that is to go out now to a locked
// destination, with its schedule from the start.
func (tx *transaction) resumed(destination Destination) (turn string, due *int64) {
	if destination.Status == DestinationDisabled {
		return turnHeld, nil
	}
	now := tx.db.steady()
	tx.markDue(Group{DeliverGroup, destination.ID}, now)
	return turnFirst, new(now.UnixMicro())
}

// ofEvent are the columns of a delivery that waits which its event has.
const ofEvent = `, (SELECT type FROM events WHERE id = event_id), (SELECT watch_id FROM events WHERE id = event_id),
	(SELECT created_at FROM events WHERE id = event_id)`

// waitAgain has deliveries wait that have ended, those for which and holds, and says how many.
// They cannot be deleted before the commit.
func (tx *transaction) waitAgain(ctx context.Context, ids []string, and, turn string, due *int64) (n int, err error) {
	args := sqldb.Args{turn, due}
	n, err = sqldb.ExecCount(ctx, tx, `INSERT INTO waiting_deliveries (`+deliveryColumns+`, turn, next_attempt_at, attempts_made)
		SELECT `+ownDeliveryColumns+ofEvent+`, CAST($1 AS TEXT), CAST($2 AS BIGINT),
			(SELECT COALESCE(MAX(number), 0) FROM attempts WHERE delivery_id = deliveries.id)
		FROM deliveries WHERE `+tx.In(&args, "id", prefixDelivery.args(ids))+and+` ORDER BY id`+tx.ForKey, args...)
	if err != nil {
		return 0, err
	}
	return n, tx.deleteRows("unaccepted_deliveries", ids)
}

// Recovery says which deliveries to recover: those made from Since to Until (now if zero).
type Recovery struct {
	TenantID      string
	DestinationID string
	Since         time.Time
	Until         time.Time
	Types         []string // of their events; all if there are none
}

// notAccepted finds the deliveries that a destination has not accepted by now.
func (db *database) notAccepted(r Recovery) (query string, args sqldb.Args) {
	args = sqldb.Args{prefixDestination.arg(r.DestinationID), r.Since.UnixMicro(), cmp.Or(r.Until, db.now()).UnixMicro()}
	these := ` AND created_at >= $2 AND created_at <= $3`
	if len(r.Types) > 0 {
		these += ` AND event_type IN (` + args.List(r.Types) + `)`
	}
	return waitingOf + these + ` UNION ALL SELECT id FROM unaccepted_deliveries WHERE destination_id = $1` + these, args
}

// Recoverable says how many deliveries Recover would redeliver now.
func (s *Store) Recoverable(ctx context.Context, r Recovery) (count int, err error) {
	defer wrapf(&err, "recoverable of destination %s", r.DestinationID)
	if _, err := s.Destination(ctx, r.TenantID, r.DestinationID); err != nil { // ErrNotFound if it is another tenant's
		return 0, err
	}
	query, args := s.db.notAccepted(r)
	n, err := sqldb.One(ctx, s.reader(), sqldb.Int, `SELECT COUNT(*) FROM (`+query+`) AS recoverable`, args...)
	return int(n), err
}

// Recover redelivers what a destination has not accepted by now, each delivery once, and
// says how many these are. What failed or was canceled begins its schedule anew, what is
// pending is due now, and what is held stays held. Each thousand (Config.MoveMost) are one
// transaction, in which each is called with the count so far and whether it is the last
// one. each may be nil, and may run again for the same transaction. After a failure all may
// be recovered again.
func (s *Store) Recover(ctx context.Context, r Recovery, each func(tx *Store, count int, last bool) error) (count int, err error) {
	defer wrapf(&err, "recover destination %s", r.DestinationID)
	var ids []string
	_, err = s.Destination(ctx, r.TenantID, r.DestinationID) // ErrNotFound if it is another tenant's
	if err == nil {
		query, args := s.db.notAccepted(r)
		ids, err = sqldb.All(ctx, s.reader(), prefixDelivery.read, query, args...)
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
	return count, err
}

// redeliver makes those of the deliveries due that were not accepted meanwhile.
func (tx *transaction) redeliver(ctx context.Context, r Recovery, ids []string) (int, error) {
	destination, err := tx.lockDestination(ctx, r.TenantID, r.DestinationID)
	if err != nil {
		return 0, err
	}
	turn, due := tx.resumed(destination)
	args := sqldb.Args{turn, due}
	n, err := sqldb.ExecCount(ctx, tx, `UPDATE waiting_deliveries SET next_attempt_at = $2,
			turn = CASE WHEN turn = 'again' AND CAST($1 AS TEXT) <> 'held' THEN turn ELSE $1 END,
			step = CASE WHEN turn = 'held' THEN 0 ELSE step END, postponed = CASE WHEN turn = 'held' THEN 0 ELSE postponed END
		WHERE `+tx.In(&args, "id", prefixDelivery.args(ids)), args...)
	if err != nil {
		return 0, err
	}
	const unaccepted = ` AND (SELECT status FROM unaccepted_deliveries u WHERE u.id = deliveries.id) IS NOT NULL`
	again, err := tx.waitAgain(ctx, ids, unaccepted, turn, due)
	return n + again, err
}

// TestDestination makes a destination.test event and its delivery, held if the destination
// is disabled.
func (s *Store) TestDestination(ctx context.Context, tenantID, id string) (made Delivery, err error) {
	defer wrapf(&err, "test destination %s", id)
	err = s.write(ctx, func(tx *transaction) error {
		d, err := tx.lockDestination(ctx, tenantID, id)
		if err != nil {
			return err
		}
		now := tx.db.now()
		body, err := renderBody(EventDestinationTest, now, destinationTestData{DestinationID: id, Name: d.Name})
		if err != nil {
			return err
		}
		test := event{
			id: tx.db.datedID(prefixEvent, now), tenantID: tenantID, kind: EventDestinationTest, body: body,
			destinations: []recipient{{id: id, disabled: d.Status == DestinationDisabled}},
		}
		if err := tx.publish([]event{test}); err != nil {
			return err
		}
		made, err = sqldb.One(ctx, tx, tx.db.scanDelivery, selectDelivery(`deliveries`)+`WHERE d.event_id = $1`, prefixEvent.arg(test.id))
		return err
	})
	return made, err
}
