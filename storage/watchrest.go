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
	return tx.later(ctx, `UPDATE operations SET ended_to = '' WHERE `+tx.db.dialect.in(&args, "id", rowIDs)+` AND EXISTS
		(SELECT 1 FROM watches w WHERE w.operation_ref = operations.id AND w.finished_at IS NULL)`, args...)
}

// unfinished is an operation that is over, and that has watches left.
type unfinished struct{ id, tenantID, operationID, endedTo string }

func scanUnfinished(row scanner) (unfinished, error) {
	var o unfinished
	err := row.Scan(&o.id, &o.tenantID, &o.operationID, &o.endedTo)
	return o, err
}

// restMost is with how many operations at a time EndRest goes on.
const restMost = 100

// EndRest goes on with operations that ended while more watched them than one
// transaction ends: it looks at up to limit of their watches, ends them as the operation
// did, and says at how many it looked. Fewer than limit: that was the last of them.
func (s *Store) EndRest(ctx context.Context, limit int) (n int, err error) {
	const next = `SELECT id, tenant_id, operation_id, ended_to FROM operations WHERE ended_to >= ''`
	some, err := queryAll(ctx, s.reader(), scanUnfinished, next+` ORDER BY ended_to LIMIT $1`, restMost)
	if err == nil && len(some) > 0 {
		ids := make([]string, len(some))
		for i, o := range some {
			ids[i] = o.id
		}
		err = s.write(ctx, func(tx *transaction) error {
			var args arguments
			locked, err := queryAll(ctx, tx, scanUnfinished, next+` AND `+tx.db.dialect.in(&args, "id", ids)+
				` ORDER BY id`+tx.db.dialect.forUpdate, args...) // without what another process has finished
			if err == nil {
				n, err = tx.endRest(ctx, locked, limit)
			}
			return err
		})
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("end the rest of the watches: %w", err)
	case len(some) == restMost: // there may be more operations
		return max(n, limit), nil
	}
	return n, nil
}

// endRest goes by the index that lists the watches of an operation's id, those of
// other operations that had it included: so no watch is looked at twice.
func (tx *transaction) endRest(ctx context.Context, operations []unfinished, limit int) (n int, err error) {
	var ids []string
	var rows [][]any
	for _, o := range operations {
		if n == limit {
			break
		}
		listed, err := queryAll(ctx, tx, scanPair, `SELECT id, operation_ref FROM watches
			WHERE tenant_id = $1 AND operation_id = $2 AND id > $3 ORDER BY id LIMIT $4`, o.tenantID, o.operationID, o.endedTo, limit-n)
		if err != nil {
			return 0, err
		}
		for _, pair := range listed {
			if o.endedTo = pair[0]; pair[1] == o.id {
				ids = append(ids, pair[0])
			}
		}
		var endedTo any = o.endedTo
		if n += len(listed); n < limit {
			endedTo = nil // these were the last
		}
		rows = append(rows, []any{o.id, endedTo})
	}
	var args arguments
	watches, err := queryAll(ctx, tx, tx.db.scanEndingWatch, selectEndingWatch+tx.db.dialect.in(&args, "w.id", ids)+` ORDER BY w.id`, args...)
	if err != nil {
		return 0, err
	}
	if err := tx.endWatches(ctx, watches); err != nil {
		return 0, err
	}
	for _, row := range rows {
		if err := exec(ctx, tx, `UPDATE operations SET ended_to = $2 WHERE id = $1`, row...); err != nil {
			return 0, err
		}
	}
	return n, nil
}
