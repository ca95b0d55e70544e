package storage

import (
	"context"
	"fmt"
	"time"

	"oprelay/storage/sqldb"
)

const (
	// lastPollPatience is how long a watch whose deadline has passed waits for the last
	// poll of its operation: longer than a lock-out of its credential.
	lastPollPatience = 6 * time.Minute
	// expiredLate is how long after that a watch may still expire. What is found later
	// waited while no process was running, so its operation gets another last poll.
	expiredLate = 10 * time.Second
)

// LastPolls takes up to limit watches whose deadline has passed, makes a last poll of their
// operations due unless there was one since, and says how many watches it took. The relay may
// have been down, or the credential locked out: what ended in time must not expire. When a
// watch is to expire is noted in its row, so that a million that wait are not read each tick.
func (s *Store) LastPolls(ctx context.Context, limit int) (n int, err error) {
	defer wrapf(&err, "last polls")
	now := s.db.steady()
	const columns = `SELECT watch_id, operation_ref FROM (SELECT watch_id, operation_ref FROM open_watches WHERE `
	late, err := sqldb.All(ctx, s.reader(), scanWatchRef,
		columns+`expire_at = 0 AND deadline <= $1 ORDER BY deadline LIMIT $3) AS passed UNION ALL `+
			columns+`expire_at > 0 AND expire_at <= $2 ORDER BY expire_at LIMIT $3) AS missed`,
		now.UnixMicro(), now.Add(-expiredLate).UnixMicro(), limit)
	if err != nil || len(late) == 0 {
		return 0, err
	}
	err = s.write(ctx, func(tx *transaction) error {
		locked, active, err := tx.lock(ctx, operationsOf(late), false)
		if err != nil {
			return err
		}
		for _, o := range active {
			tx.markDue(Group{PollGroup, o.budgetID}, now)
		}
		watches := watchesOf(late, locked)
		n = len(watches)
		return tx.askLastPolls(locked, watches, now)
	})
	return n, err
}

// askLastPolls makes polls due of locked operations for watches whose deadline has passed,
// and notes when the watches expire: now if there was a poll since, else after
// lastPollPatience unless there is one before.
func (tx *transaction) askLastPolls(operationRefs []string, watches []watchRef, now time.Time) error {
	if len(watches) == 0 {
		return nil
	}
	var args sqldb.Args
	asked := `CAST(` + args.Add(now.UnixMicro()) + ` AS BIGINT)`
	err := tx.Later(`UPDATE open_operations SET last_poll_asked_at = `+asked+`, due_at = `+tx.Least+`(due_at, `+asked+`)
		WHERE budget_id <> '' AND `+tx.In(&args, "id", prefixOperation.args(operationRefs))+` AND EXISTS (SELECT 1 FROM open_watches w
			WHERE w.operation_ref = open_operations.id
			AND w.deadline <= `+asked+` AND w.deadline > COALESCE(open_operations.last_polled_at, 0))`, args...)
	if err != nil {
		return err
	}
	args = sqldb.Args{now.UnixMicro()}
	patience := args.Add(now.Add(lastPollPatience).UnixMicro())
	return tx.Later(`UPDATE open_watches SET expire_at = CASE WHEN deadline <= (SELECT COALESCE(last_polled_at, 0)
			FROM open_operations o WHERE o.id = open_watches.operation_ref) THEN `+asked+` ELSE CAST(`+patience+` AS BIGINT) END
		WHERE `+tx.among(&args, watches), args...)
}

// expirePolled has watches expire now whose last poll was this one: up to most watches of
// these operations. The others wait for lastPollPatience.
func (tx *transaction) expirePolled(operationRefs []string, most int) error {
	if len(operationRefs) == 0 {
		return nil
	}
	args := sqldb.Args{tx.db.steady().UnixMicro()}
	return tx.Later(`UPDATE open_watches SET expire_at = $1 WHERE (operation_ref, watch_id) IN (SELECT w.operation_ref, w.watch_id
		FROM open_watches w JOIN open_operations o ON o.id = w.operation_ref
		WHERE `+tx.In(&args, "w.operation_ref", prefixOperation.args(operationRefs))+` AND w.expire_at > $1
		AND w.deadline <= o.last_polled_at LIMIT `+args.Add(most)+`)`, args...)
}

// ExpireWatches ends up to limit watches whose deadline has passed and whose operation was
// polled since, or could not be for lastPollPatience, and says how many. Where no poll has
// ever seen the operation and the last one said why, they end as unobservable.
func (s *Store) ExpireWatches(ctx context.Context, limit int) (_ int, err error) {
	defer wrapf(&err, "expire watches")
	return s.endSelected(ctx, selectedWatches{
		status: WatchExpired, reason: ReasonDeadline, limit: limit,
		where: fmt.Sprintf(`expire_at <= $1 AND expire_at > CAST($1 AS BIGINT) - %d ORDER BY expire_at`,
			expiredLate.Microseconds()),
		value: s.db.steady().UnixMicro(),
	})
}
