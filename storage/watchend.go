package storage

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// rejectChunk is how many watches of a rejected credential end in one transaction.
const rejectChunk = 500

// CancelWatch ends a watch without an event. One that has ended is returned as it is.
func (s *Store) CancelWatch(ctx context.Context, tenantID, id string) (canceled Watch, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		ref, err := queryOne(ctx, tx, scanString,
			`SELECT operation_ref FROM watches WHERE tenant_id = $1 AND id = $2`, tenantID, id)
		if err != nil {
			return err
		}
		operations, err := tx.lockOperations(ctx, []string{ref})
		if err != nil {
			return err
		}
		n, err := execCount(ctx, tx, `UPDATE watches SET status = 'canceled', finished_at = $1
			WHERE id = $2 AND status = 'watching'`, tx.db.now().UnixMicro(), id)
		if err != nil {
			return err
		}
		if n > 0 {
			tx.ended = append(tx.ended, WatchCanceled)
			if err := tx.closeIdle(ctx, operations); err != nil {
				return err
			}
			if err := tx.showProgress(ctx, []string{id}); err != nil {
				return err
			}
		}
		canceled, err = tx.db.readWatch(ctx, tx, tenantID, id)
		return err
	})
	if err != nil {
		return Watch{}, fmt.Errorf("cancel watch %s: %w", id, err)
	}
	return canceled, nil
}

// lastPollPatience is how long a watch whose deadline has passed waits for the last
// poll of its operation: longer than a lock-out of its credential.
const lastPollPatience = 6 * time.Minute

// LastPolls takes up to limit watches whose deadline has passed, makes a poll due
// of their operations unless they were polled since, and says how many watches it
// took. The relay may have been down, or its credential locked out: what has ended
// in time shall not be told as expired.
func (s *Store) LastPolls(ctx context.Context, limit int) (n int, err error) {
	now := s.db.steady()
	late, err := queryAll(ctx, s.reader(), scanPair, `SELECT id, operation_ref FROM watches
		WHERE status = 'watching' AND expire_at IS NULL AND deadline <= $1 ORDER BY deadline LIMIT $2`, now.UnixMicro(), limit)
	if err != nil || len(late) == 0 {
		return 0, err
	}
	watches, refs := unzip(late)
	err = s.write(ctx, func(tx *transaction) error {
		operations, err := tx.lockOperations(ctx, refs)
		if err != nil {
			return err
		}
		if err := tx.askLastPolls(ctx, refs, watches, now); err != nil {
			return err
		}
		for _, o := range operations {
			tx.markDue(Group{PollGroup, o.budgetID}, now)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("last polls: %w", err)
	}
	return len(late), nil
}

// askLastPolls makes polls due of operations, which are locked, for their watches
// whose deadline has passed, and notes when these end: at once if there was such a
// poll, else when there is one, or after lastPollPatience.
func (tx *transaction) askLastPolls(ctx context.Context, operationRefs, watches []string, now time.Time) error {
	var args arguments
	asked := `CAST(` + args.add(now.UnixMicro()) + ` AS BIGINT)`
	err := tx.later(ctx, `UPDATE operations SET last_poll_asked_at = COALESCE(last_poll_asked_at, `+asked+`),
		due_at = CASE WHEN last_poll_asked_at IS NULL THEN `+tx.db.dialect.least+`(due_at, `+asked+`) ELSE due_at END
		WHERE active AND `+tx.db.dialect.in(&args, "id", operationRefs)+` AND EXISTS (SELECT 1 FROM watches w
			WHERE w.operation_ref = operations.id AND w.finished_at IS NULL
			AND w.deadline <= `+asked+` AND w.deadline > COALESCE(operations.last_polled_at, 0))`, args...)
	if err != nil {
		return err
	}
	args = args[:1]
	patience := args.add(lastPollPatience.Microseconds())
	return tx.later(ctx, `UPDATE watches SET expire_at = (SELECT CASE WHEN o.last_polled_at >= watches.deadline THEN 0
			ELSE COALESCE(o.last_poll_asked_at, `+asked+`) + `+patience+` END FROM operations o WHERE o.id = watches.operation_ref)
		WHERE finished_at IS NULL AND `+tx.db.dialect.in(&args, "id", watches), args...)
}

// expirePolled ends at the next [Store.ExpireWatches] those watches of the
// operations, polled just now, that have waited for nothing else: up to most of them.
// The others wait for lastPollPatience.
func (tx *transaction) expirePolled(ctx context.Context, operationRefs []string, most int) error {
	if len(operationRefs) == 0 {
		return nil
	}
	var args arguments
	return tx.later(ctx, `UPDATE watches SET expire_at = 0 WHERE id IN (SELECT w.id
		FROM watches w JOIN operations o ON o.id = w.operation_ref
		WHERE `+tx.db.dialect.in(&args, "w.operation_ref", operationRefs)+` AND w.finished_at IS NULL
		AND w.expire_at > 0 AND w.deadline <= o.last_polled_at LIMIT `+args.add(most)+`)`, args...)
}

// ExpireWatches ends up to limit watches whose deadline has passed, and says how
// many: those whose operation was polled since, or could not be for
// lastPollPatience after [Store.LastPolls].
func (s *Store) ExpireWatches(ctx context.Context, limit int) (int, error) {
	n, err := s.endSelected(ctx, selectedWatches{
		status: WatchExpired, reason: ReasonDeadline, limit: limit,
		where: `status = 'watching' AND expire_at <= $1 ORDER BY expire_at`, value: s.db.steady().UnixMicro(),
	})
	if err != nil {
		return 0, fmt.Errorf("expire watches: %w", err)
	}
	return n, nil
}

// selectedWatches is which watches to end, and how.
type selectedWatches struct {
	status, reason string
	where          string // with $1 for value
	value          any
	limit          int
}

// endSelected ends up to a limit of watches, and says how many: those whose operation
// is over (see [Store.EndRest]) as that ended.
func (s *Store) endSelected(ctx context.Context, selected selectedWatches) (n int, err error) {
	candidates, err := queryAll(ctx, s.reader(), scanPair, `SELECT id, operation_ref FROM watches WHERE `+
		selected.where+` LIMIT $2`, selected.value, selected.limit)
	if err != nil || len(candidates) == 0 {
		return 0, err
	}
	ids, refs := unzip(candidates)
	err = s.write(ctx, func(tx *transaction) error {
		operations, err := tx.lockOperations(ctx, refs)
		if err != nil {
			return err
		}
		var args arguments
		watches, err := queryAll(ctx, tx, tx.db.scanEndingWatch,
			selectEndingWatch+tx.db.dialect.in(&args, "w.id", ids)+` ORDER BY w.id`, args...)
		if err != nil {
			return err
		}
		for _, w := range watches {
			if w.status == "" {
				w.status, w.reason, w.observedAt = selected.status, selected.reason, tx.db.now()
			}
		}
		n = len(watches)
		if err := tx.endWatches(ctx, watches); err != nil {
			return err
		}
		return tx.closeIdle(ctx, operations)
	})
	return n, err
}

func scanPair(row scanner) ([2]string, error) {
	var pair [2]string
	err := row.Scan(&pair[0], &pair[1])
	return pair, err
}

// unzip returns all firsts, and the distinct seconds.
func unzip(pairs [][2]string) (firsts, seconds []string) {
	for _, pair := range pairs {
		firsts, seconds = append(firsts, pair[0]), append(seconds, pair[1])
	}
	slices.Sort(seconds)
	return firsts, slices.Compact(seconds)
}

// RejectCredential gives a credential up that the upstream has refused since
// refusedBefore or longer, and tells the tenant's alerts destinations. It does
// nothing and returns false if the credential was accepted meanwhile, or
// rejected before. What watches with it, EndRejected ends.
func (s *Store) RejectCredential(ctx context.Context, id string, refusedBefore time.Time) (rejected bool, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		n, err := execCount(ctx, tx, `UPDATE credentials SET status = 'rejected'
			WHERE id = $1 AND status = 'active' AND refused_since <= $2 AND deleted_at IS NULL`,
			id, refusedBefore.UnixMicro())
		rejected = n > 0
		if err != nil || !rejected {
			return err
		}
		c, err := queryOne(ctx, tx, scanCredential, selectCredential+`AND id = $1`, id)
		if err != nil {
			return err
		}
		now := tx.db.now()
		body, err := renderBody(EventCredentialRejected, now, credentialRejectedData{
			CredentialID: c.ID, Name: c.Name, RefusedSince: tx.db.dated(c.RefusedSince), RejectedAt: now,
		})
		if err != nil {
			return err
		}
		return tx.alert(ctx, event{tenantID: c.TenantID, kind: EventCredentialRejected, body: body}, "")
	})
	if err != nil {
		return false, fmt.Errorf("reject credential %s: %w", id, err)
	}
	return rejected, nil
}

// EndRejected ends the watches of a rejected credential as unobservable, some in
// each transaction. If the process dies in between, their own polls end the rest.
func (s *Store) EndRejected(ctx context.Context, id string) error {
	for {
		n, err := s.endSelected(ctx, selectedWatches{
			status: WatchUnobservable, reason: ReasonCredentialRejected, limit: rejectChunk,
			where: `status = 'watching' AND credential_id = $1 ORDER BY id`, value: id,
		})
		if err != nil {
			return fmt.Errorf("end the watches of credential %s: %w", id, err)
		}
		if n == 0 {
			return nil
		}
	}
}
