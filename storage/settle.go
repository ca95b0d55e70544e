package storage

import (
	"context"
	"time"
)

// defaultMoveMost is how many deliveries one transaction moves: far fewer than it has
// time for (answerTime), so that nobody waits long for it either.
const defaultMoveMost = 1000

// pendingOf and heldOf find the deliveries of the destination $1 by the indexes
// on what is due: a destination has few of these, and many that are done.
const (
	pendingOf    = pendingFirst + ` UNION ALL ` + pendingAgain
	pendingFirst = `SELECT id FROM deliveries WHERE destination_id = $1 AND status = 'pending' AND step = 0`
	pendingAgain = `SELECT id FROM deliveries WHERE destination_id = $1 AND status = 'pending' AND step > 0`
	heldOf       = `SELECT id FROM deliveries WHERE destination_id = $1 AND status = 'held'`
)

// unsettled says whether the destination d, whose id is $1, has deliveries that do
// not wait as its state has them wait: for settle to move them.
const unsettled = `CASE WHEN d.deleted_at IS NOT NULL THEN EXISTS (` + pendingOf + ` UNION ALL ` + heldOf + `)
	WHEN d.status = 'enabled' THEN EXISTS (` + heldOf + `) ELSE EXISTS (` + pendingOf + `) END`

// settle has deliveries wait as the state of their destination says: pending while
// it is enabled, held while it is disabled; canceled, once it is deleted. It moves
// a bounded number of them and, unless there was nothing to do, makes the group due,
// whose next visit goes on. So a change of the state is one short transaction however
// much waits, and whoever wrote a delivery by the state before, and committed after
// the change, has it put right when the group is visited.
func (tx *transaction) settle(ctx context.Context, destinationID string) error {
	state, err := queryOne(ctx, tx, scanString, `SELECT CASE WHEN deleted_at IS NOT NULL THEN 'deleted' ELSE status END
		FROM destinations WHERE id = $1`+tx.db.dialect.forUpdate, destinationID)
	if err != nil {
		return err
	}
	now := tx.db.steady()
	status, next, finished, waiting := DeliveryHeld, time.Time{}, time.Time{}, pendingOf
	switch state {
	case DestinationEnabled:
		status, next, waiting = DeliveryPending, now, heldOf
	case "deleted":
		status, finished, waiting = DeliveryCanceled, tx.db.now(), pendingOf+` UNION ALL `+heldOf
	}
	n, err := execCount(ctx, tx, `UPDATE deliveries SET status = $2, next_attempt_at = $3, finished_at = $4
		WHERE id IN (`+waiting+` LIMIT $5)`, destinationID, status, instant(next), instant(finished), tx.db.moveMost)
	if err != nil || n == 0 {
		return err
	}
	tx.markDue(Group{DeliverGroup, destinationID}, now)
	// What a receiver has asked for is not what its deliveries wait for now.
	return tx.later(ctx, `UPDATE work_groups SET not_before = 0 WHERE kind = $1 AND id = $2`,
		string(DeliverGroup), destinationID)
}
