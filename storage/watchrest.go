package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// What a poll tells may concern any number of watches, and no transaction may take
// answerTime.
const (
	endMost   = 1024  // watches that it ends: one of each operation of a full batch, and some
	touchMost = 10000 // watches of which it changes the row, or the message
)

// endOperations ends the watches of operations that were closed just now: up to
// endMost of them, and leaves the rest to [Store.EndRest].
func (tx *transaction) endOperations(ctx context.Context, rowIDs []string) error {
	if len(rowIDs) == 0 {
		return nil
	}
	var args arguments
	watches, err := queryAll(ctx, tx, tx.db.scanEndingWatch, selectEndingWatch+
		tx.db.dialect.in(&args, "w.operation_ref", rowIDs)+` LIMIT `+args.add(tx.db.endMost), args...)
	if err != nil {
		return err
	}
	slices.SortFunc(watches, func(a, b *endingWatch) int { return strings.Compare(a.id, b.id) })
	if err := tx.endWatches(ctx, watches); err != nil || len(watches) < tx.db.endMost {
		return err
	}
	args = nil
	_, err = tx.ExecContext(ctx, `UPDATE operations SET ended_to = '' WHERE `+tx.db.dialect.in(&args, "id", rowIDs)+` AND EXISTS
		(SELECT 1 FROM watches w WHERE w.operation_ref = operations.id AND w.finished_at IS NULL)`, args...)
	return err
}

// unfinished is an operation that is over, and that has watches left.
type unfinished struct{ id, tenantID, operationID, endedTo string }

func scanUnfinished(row scanner) (unfinished, error) {
	var o unfinished
	err := row.Scan(&o.id, &o.tenantID, &o.operationID, &o.endedTo)
	return o, err
}

// EndRest goes on with an operation that ended while more watched it than one
// transaction ends: it looks at up to limit of its watches, ends them as the operation
// did, and says at how many it looked. Fewer than limit: that was the last of it.
func (s *Store) EndRest(ctx context.Context, limit int) (n int, err error) {
	const next = `SELECT id, tenant_id, operation_id, ended_to FROM operations WHERE ended_to >= ''`
	some, err := queryAll(ctx, s.reader(), scanUnfinished, next+` ORDER BY ended_to LIMIT 1`)
	if err == nil && len(some) > 0 {
		err = s.write(ctx, func(tx *transaction) error {
			n = 0
			locked, err := queryAll(ctx, tx, scanUnfinished, next+` AND id = $1`+tx.db.dialect.forUpdate, some[0].id)
			if err != nil || len(locked) == 0 { // another process was faster
				return err
			}
			n, err = tx.endRest(ctx, locked[0], limit)
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("end the rest of the watches: %w", err)
	}
	return n, nil
}

// endRest goes by the index that lists the watches of an operation's id, those of
// other operations that had it included: so no watch is looked at twice.
func (tx *transaction) endRest(ctx context.Context, o unfinished, limit int) (int, error) {
	listed, err := queryAll(ctx, tx, scanPair, `SELECT id, operation_ref FROM watches
		WHERE tenant_id = $1 AND operation_id = $2 AND id > $3 ORDER BY id LIMIT $4`, o.tenantID, o.operationID, o.endedTo, limit)
	if err != nil {
		return 0, err
	}
	var ids []string
	for _, pair := range listed {
		if o.endedTo = pair[0]; pair[1] == o.id {
			ids = append(ids, pair[0])
		}
	}
	var args arguments
	watches, err := queryAll(ctx, tx, tx.db.scanEndingWatch, selectEndingWatch+tx.db.dialect.in(&args, "w.id", ids)+` ORDER BY w.id`, args...)
	if err != nil {
		return 0, err
	}
	if err := tx.endWatches(ctx, watches); err != nil {
		return 0, err
	}
	var endedTo any = o.endedTo
	if len(listed) < limit {
		endedTo = nil
	}
	return len(listed), exec(ctx, tx, `UPDATE operations SET ended_to = $1 WHERE id = $2`, endedTo, o.id)
}
