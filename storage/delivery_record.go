package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"oprelay/storage/sqldb"
)

// AttemptResult is what one attempt led to. Its times are steady.
type AttemptResult struct {
	DeliveryID    string
	DestinationID string  // the delivery's
	AttemptsMade  int     // before this attempt
	Attempt       Attempt // its Number is AttemptsMade + 1
	Status        string  // DeliverySucceeded, DeliveryPending, DeliveryFailed or DeliveryHeld
	NextAttemptAt time.Time
	Slack         SlackRef // zero if the attempt left no message
	// Postponed is by how much an attempt that uses no step of the schedule puts the delivery
	// off; 0 for one that uses a step.
	Postponed time.Duration
	// PauseUntil is when the destination may be sent to again, zero if at once.
	PauseUntil time.Time
	// Shared says that the attempt was the same request as that of the result before it: of the
	// destination's failures in a row they are one.
	Shared bool
}

// RecordAttempts writes attempts, the state of their deliveries, and the health of the
// destinations in one transaction, which attempts that are recorded at the same time share
// (see groupCommit). Results for one destination come in the order in which the attempts
// ended. A result is dropped if another process has attempted the delivery meanwhile. What is
// still to be delivered is held while the destination is disabled.
func (s *Store) RecordAttempts(ctx context.Context, results []AttemptResult) error {
	switch {
	case len(results) == 0:
		return nil
	case s.tx != nil:
		_, err := s.recordAttempts(ctx, results, s.db.ForUpdate)
		return err
	}
	return s.db.attempts.do(ctx, &contribution[[]AttemptResult]{
		what: results, rows: len(results), locks: results[0].DestinationID,
	})
}

// commitAttempts leaves out, if it is hasty, those at destinations that are locked.
func (s *Store) commitAttempts(ctx context.Context, all [][]AttemptResult) ([]error, error) {
	lock := s.db.ForUpdate
	if s.hasty {
		lock += s.db.SkipLocked
	}
	locked, err := s.recordAttempts(ctx, slices.Concat(all...), lock)
	if err != nil || !s.hasty {
		return nil, err
	}
	own := make([]error, len(all))
	for i, results := range all {
		if slices.ContainsFunc(results, func(r AttemptResult) bool { return locked[r.DestinationID] }) {
			own[i] = ErrLocked
		}
	}
	return own, nil
}

func (s *Store) recordAttempts(ctx context.Context, results []AttemptResult, lock string) (locked map[string]bool, err error) {
	locked = map[string]bool{}
	err = s.write(ctx, func(tx *transaction) error {
		records, err := tx.lockHealth(destinationsOf(results), lock, tx.LaterScan)
		if err != nil {
			return err
		}
		deliveries, err := tx.readUnsettled(ctx, results)
		if err != nil {
			return err
		}
		clear(locked)
		for id, record := range records {
			if record == nil {
				locked[id] = true
			}
		}
		var settled settled
		for _, r := range results {
			before, known := deliveries[r.DeliveryID]
			health := records[r.DestinationID]
			if !known || health == nil {
				continue
			}
			settled.add(tx, r, before, health)
			health.count(r, tx.db.dated(r.Attempt.StartedAt.Add(r.Attempt.Duration)))
			if r.Status == DeliveryFailed && !before.canceled && before.eventType != EventDeliveryFailed {
				health.untold.add(before.createdAt, tx.db.steady()) // the failing of such an alert is told no further: it would go round for ever
				health.changed = true
			}
		}
		tx.recorded[DeliverGroup] += len(settled.attempts)
		if err := settled.write(tx); err != nil {
			return err
		}
		return tx.writeHealth(records)
	})
	if err != nil {
		return nil, fmt.Errorf("record %d attempts: %w", len(results), err)
	}
	return locked, nil
}

// health is the record of failures in a destination's row, which is locked.
type health struct {
	enabled      bool
	failingSince time.Time
	failures     int
	lastError    string
	pausedUntil  time.Time
	lastSuccess  time.Time // by the wall clock
	changedAt    time.Time // attempts that began before say nothing of the new address
	tenantID     string
	name         string
	untold       untold
	changed      bool
	ended        bool // an attempt says that the destination is to be disabled
}

// successNoticed is how exact a destination's last success is kept: its row is not written
// for each one.
const successNoticed = time.Second

// count adds an attempt, which ended at a time, to the record. A success clears all but the
// last error. The error that disables a destination is not overwritten by those of other
// attempts in flight.
func (h *health) count(r AttemptResult, ended time.Time) {
	if r.Status == DeliverySucceeded {
		if h.lastSuccess.IsZero() || ended.Sub(h.lastSuccess).Abs() >= successNoticed {
			h.changed, h.lastSuccess = true, ended
		}
		h.changed = h.changed || h.failures > 0 || !h.failingSince.IsZero()
		h.failures, h.failingSince = 0, time.Time{}
		return
	}
	if r.Attempt.StartedAt.Before(h.changedAt) {
		return
	}
	h.changed = true
	if !r.Shared {
		h.failures++
	}
	h.failingSince = cmp.Or(h.failingSince, r.Attempt.StartedAt)
	if h.enabled && !h.ended {
		h.lastError, h.ended = sqldb.Clean(r.Attempt.Error), r.Status == DeliveryHeld
	}
	if r.PauseUntil.After(h.pausedUntil) {
		h.pausedUntil = r.PauseUntil
	}
}

func destinationsOf(results []AttemptResult) []string {
	ids := map[string]bool{}
	for i := range results {
		ids[results[i].DestinationID] = true
	}
	return slices.Collect(maps.Keys(ids))
}

// lockHealth locks the destinations, deleted or not, and reads their records when send does: nil
// of one that lock has left out.
func (tx *transaction) lockHealth(
	ids []string, lock string, send func(each func(sqldb.Row) error, query string, args ...any) error,
) (map[string]*health, error) {
	records := make(map[string]*health, len(ids))
	for _, id := range ids {
		records[id] = nil
	}
	var args sqldb.Args
	err := send(func(row sqldb.Row) error {
		var id string
		var h health
		err := row.Scan(append([]any{
			prefixDestination.scan(&id), prefixTenant.scan(&h.tenantID), &h.name, &h.enabled,
			sqldb.Time(&h.failingSince), &h.failures, &h.lastError,
			sqldb.Time(&h.pausedUntil), sqldb.Time(&h.lastSuccess), sqldb.Time(&h.changedAt),
		}, h.untold.scans()...)...)
		records[id] = &h
		return err
	}, `SELECT id, tenant_id, name, status = 'enabled', failing_since, consecutive_failures, last_error,
		paused_until, last_success_at, changed_at, failed_untold, failed_since, failed_told_at
		FROM destinations WHERE `+
		tx.In(&args, "id", prefixDestination.args(slices.Sorted(slices.Values(ids))))+` ORDER BY id`+lock, args...)
	return records, err
}

// writeHealth writes the records that changed, mostly none.
func (tx *transaction) writeHealth(records map[string]*health) error {
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(records)) {
		if h := records[id]; h != nil && h.changed {
			rows = append(rows, []any{
				prefixDestination.arg(id), sqldb.Micros(h.failingSince), h.failures, h.lastError,
				sqldb.Micros(h.pausedUntil), sqldb.Micros(h.lastSuccess),
				h.untold.count, sqldb.Micros(h.untold.since), sqldb.Micros(h.untold.toldAt),
			})
		}
	}
	return tx.UpdateRows(sqldb.RowsUpdate{
		Head: `UPDATE destinations SET failing_since = v.column2, consecutive_failures = v.column3, last_error = v.column4,
			paused_until = v.column5, last_success_at = v.column6,
			failed_untold = v.column7, failed_since = v.column8, failed_told_at = v.column9`,
		Rows: rows,
		Key:  "destinations.id",
		Tail: `WHERE TRUE`,
	})
}

// unsettled is a delivery before its attempt is recorded.
type unsettled struct {
	eventType, watchID string
	createdAt          time.Time
	canceled           bool
	attemptsMade, step int
	postponed          int64
}

// readUnsettled returns the deliveries that no other process has attempted since. Their
// destinations have been locked by then, and so nobody else changes them.
func (tx *transaction) readUnsettled(ctx context.Context, results []AttemptResult) (map[string]unsettled, error) {
	before := make(map[string]int, len(results))
	for _, r := range results {
		before[r.DeliveryID] = r.AttemptsMade
	}
	found := make(map[string]unsettled, len(before))
	scan := func(row sqldb.Row) error {
		var id string
		var d unsettled
		err := row.Scan(prefixDelivery.scan(&id), &d.eventType, prefixWatch.scan(&d.watchID), sqldb.Time(&d.createdAt), &d.canceled,
			&d.attemptsMade, &d.step, &d.postponed)
		if made, ok := before[id]; ok && made == d.attemptsMade {
			found[id] = d
		}
		delete(before, id)
		return err
	}
	var args sqldb.Args
	_, err := tx.Query(ctx, scan, `SELECT id, event_type, watch_id, created_at, FALSE, attempts_made, step, postponed
		FROM waiting_deliveries WHERE `+tx.In(&args, "id", prefixDelivery.args(slices.Sorted(maps.Keys(before)))), args...)
	if err != nil || len(before) == 0 {
		return found, err
	}
	args = nil // some are canceled by now
	_, err = tx.Query(ctx, scan, `SELECT id, event_type, watch_id, created_at, TRUE,
		(SELECT COALESCE(MAX(number), 0) FROM attempts WHERE delivery_id = unaccepted_deliveries.id), 0, 0
		FROM unaccepted_deliveries WHERE `+tx.In(&args, "id", prefixDelivery.args(slices.Sorted(maps.Keys(before)))), args...)
	return found, err
}

// settled is what attempts have changed, as rows.
type settled struct {
	attempts         [][]any
	accepted, failed []string // deliveries that wait no longer
	despite          []string // accepted ones that were canceled meanwhile
	waiting          [][]any
	messages         [][]any
}

// add adds an attempt at a delivery, whose destination's record is h.
func (s *settled) add(tx *transaction, r AttemptResult, d unsettled, h *health) {
	s.attempts = append(s.attempts, []any{
		prefixDelivery.arg(r.DeliveryID), r.AttemptsMade + 1, tx.db.dated(r.Attempt.StartedAt).UnixMicro(), r.Attempt.Duration.Microseconds(),
		r.Attempt.StatusCode, sqldb.Clean(r.Attempt.Error), append([]byte{}, r.Attempt.ResponseBody...),
	})
	if r.Slack.TS != "" && d.watchID != "" {
		s.messages = append(s.messages, []any{
			prefixWatch.arg(d.watchID), prefixDestination.arg(r.DestinationID), sqldb.Clean(r.Slack.Channel), sqldb.Clean(r.Slack.TS),
		})
	}
	switch {
	case d.canceled && r.Status == DeliverySucceeded:
		s.despite = append(s.despite, r.DeliveryID)
	case d.canceled:
	case r.Status == DeliverySucceeded:
		s.accepted = append(s.accepted, r.DeliveryID)
	case r.Status == DeliveryFailed:
		s.failed = append(s.failed, r.DeliveryID)
	default:
		s.waiting = append(s.waiting, tx.waitingRow(r, d, h))
	}
}

// waitingRow is the new state of a delivery that still waits: id, turn, next attempt, attempts
// made, step, postponed.
func (tx *transaction) waitingRow(r AttemptResult, d unsettled, h *health) []any {
	turn, next, step := turnAgain, cmp.Or(r.NextAttemptAt, tx.db.steady()), d.step
	if r.Attempt.StartedAt.Before(h.changedAt) {
		next = tx.db.steady()
	}
	if r.Postponed == 0 {
		step++
	}
	if step == 0 {
		turn = turnFirst
	}
	if !h.enabled {
		turn, next = turnHeld, time.Time{}
	}
	return []any{
		prefixDelivery.arg(r.DeliveryID), turn, sqldb.Micros(next), r.AttemptsMade + 1, step, d.postponed + r.Postponed.Microseconds(),
	}
}

// write writes all. A message shows the end of its watch now, so no progress of it is due any
// more.
func (s *settled) write(tx *transaction) error {
	return errors.Join(
		tx.InsertRows(`INSERT INTO attempts (delivery_id, number, started_at, duration, status_code, error, response_body)`, s.attempts),
		tx.deleteRows("waiting_deliveries", s.accepted),
		tx.deleteRows("unaccepted_deliveries", s.despite),
		tx.giveUp(s.failed, DeliveryFailed),
		tx.UpdateRows(sqldb.RowsUpdate{
			Head: `UPDATE waiting_deliveries SET turn = v.column2, next_attempt_at = v.column3, attempts_made = v.column4,
				step = v.column5, postponed = v.column6`,
			Rows: s.waiting,
			Key:  "waiting_deliveries.id",
			Tail: `WHERE TRUE`,
		}),
		tx.UpdateRows(sqldb.RowsUpdate{
			Head: `UPDATE slack_messages SET channel = v.column3, ts = v.column4, shown_revision = slack_messages.revision`,
			Rows: s.messages,
			Key:  "slack_messages.watch_id",
			Tail: `WHERE slack_messages.destination_id = v.column2`,
		}),
	)
}

// giveUp ends deliveries that wait, whose destinations are locked, as failed or canceled.
func (tx *transaction) giveUp(ids []string, status string) error {
	if len(ids) == 0 {
		return nil
	}
	args := sqldb.Args{status, tx.db.now().UnixMicro()}
	err := tx.Later(`INSERT INTO unaccepted_deliveries (`+deliveryColumns+`, status, finished_at)
		SELECT `+deliveryColumns+`, CAST($1 AS TEXT), CAST($2 AS BIGINT) FROM waiting_deliveries WHERE `+
		tx.In(&args, "id", prefixDelivery.args(ids)), args...)
	if err != nil {
		return err
	}
	return tx.deleteRows("waiting_deliveries", ids)
}

// deleteRows deletes rows of a table by the ids of their deliveries.
func (tx *transaction) deleteRows(table string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	var args sqldb.Args
	return tx.Later(`DELETE FROM `+table+` WHERE `+tx.In(&args, "id", prefixDelivery.args(ids)), args...)
}
