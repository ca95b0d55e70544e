package storage

import (
	"cmp"
	"context"
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
		records, err := tx.lockHealth(ctx, destinationsOf(results), lock)
		if err != nil {
			return err
		}
		clear(locked)
		for id, record := range records {
			if record == nil {
				locked[id] = true
			}
		}
		deliveries, err := tx.lockDeliveries(ctx, results)
		if err != nil {
			return err
		}
		var updates, attempts, messages [][]any
		for _, r := range results {
			before, known := deliveries[r.DeliveryID]
			health := records[r.DestinationID]
			if !known || health == nil {
				continue
			}
			updates = append(updates, tx.deliveryRow(r, before.status, health))
			attempts = append(attempts, []any{
				r.DeliveryID, r.AttemptsMade + 1, tx.db.dated(r.Attempt.StartedAt).UnixMicro(), r.Attempt.Duration.Microseconds(),
				r.Attempt.StatusCode, sqldb.Clean(r.Attempt.Error), append([]byte{}, r.Attempt.ResponseBody...),
			})
			if r.Slack.TS != "" {
				messages = append(messages, []any{r.DeliveryID, sqldb.Clean(r.Slack.Channel), sqldb.Clean(r.Slack.TS)})
			}
			health.count(r, tx.db.dated(r.Attempt.StartedAt.Add(r.Attempt.Duration)))
			if r.Status == DeliveryFailed && before.status != DeliveryCanceled && before.eventType != EventDeliveryFailed {
				health.untold.add(before.createdAt, tx.db.steady()) // the failing of such an alert is told no further: it would go round for ever
				health.changed = true
			}
		}
		tx.recorded[DeliverGroup] += len(attempts)
		if err := tx.writeAttempts(updates, attempts, messages); err != nil {
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

// lockHealth locks the destinations, deleted or not, and reads their records: nil of one that
// lock has left out.
func (tx *transaction) lockHealth(ctx context.Context, ids []string, lock string) (map[string]*health, error) {
	records := make(map[string]*health, len(ids))
	for _, id := range ids {
		records[id] = nil
	}
	var args sqldb.Args
	_, err := tx.Query(ctx, func(row sqldb.Row) error {
		var id string
		var h health
		err := row.Scan(append([]any{
			&id, &h.tenantID, &h.name, &h.enabled, sqldb.Time(&h.failingSince), &h.failures, &h.lastError,
			sqldb.Time(&h.pausedUntil), sqldb.Time(&h.lastSuccess), sqldb.Time(&h.changedAt),
		}, h.untold.scans()...)...)
		records[id] = &h
		return err
	}, `SELECT id, tenant_id, name, status = 'enabled', failing_since, consecutive_failures, last_error,
		paused_until, last_success_at, changed_at, failed_untold, failed_since, failed_told_at
		FROM destinations
		WHERE `+tx.In(&args, "id", slices.Sorted(slices.Values(ids)))+` ORDER BY id`+lock, args...)
	return records, err
}

// writeHealth writes the records that changed, mostly none.
func (tx *transaction) writeHealth(records map[string]*health) error {
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(records)) {
		if h := records[id]; h != nil && h.changed {
			rows = append(rows, []any{
				id, sqldb.Micros(h.failingSince), h.failures, h.lastError, sqldb.Micros(h.pausedUntil), sqldb.Micros(h.lastSuccess),
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
	status, eventType string
	createdAt         time.Time
}

// lockDeliveries locks the deliveries, and returns those that no other process has attempted
// since.
func (tx *transaction) lockDeliveries(ctx context.Context, results []AttemptResult) (map[string]unsettled, error) {
	before := make(map[string]int, len(results))
	for _, r := range results {
		before[r.DeliveryID] = r.AttemptsMade
	}
	var args sqldb.Args
	found := map[string]unsettled{}
	_, err := tx.Query(ctx, func(row sqldb.Row) error {
		var id string
		var d unsettled
		var made int
		err := row.Scan(&id, &d.status, &d.eventType, sqldb.Time(&d.createdAt), &made)
		if made == before[id] {
			found[id] = d
		}
		return err
	}, `SELECT id, status, event_type, created_at, attempts_made FROM deliveries WHERE `+
		tx.In(&args, "id", slices.Sorted(maps.Keys(before)))+` ORDER BY id`+tx.ForUpdate, args...)
	return found, err
}

// deliveryRow is the new state of a delivery, which has a status now: id, status, attempts
// made, next attempt, finished, postponed.
func (tx *transaction) deliveryRow(r AttemptResult, status string, h *health) []any {
	made, now, postponed := r.AttemptsMade+1, tx.db.now(), r.Postponed.Microseconds()
	switch {
	case r.Status == DeliverySucceeded || (r.Status == DeliveryFailed && status != DeliveryCanceled):
		return []any{r.DeliveryID, r.Status, made, sqldb.Micros(time.Time{}), sqldb.Micros(now), postponed}
	case status == DeliveryCanceled:
		return []any{r.DeliveryID, DeliveryCanceled, made, sqldb.Micros(time.Time{}), sqldb.Micros(now), postponed}
	case !h.enabled:
		return []any{r.DeliveryID, DeliveryHeld, made, sqldb.Micros(time.Time{}), sqldb.Micros(time.Time{}), postponed}
	}
	next := cmp.Or(r.NextAttemptAt, tx.db.steady())
	if r.Attempt.StartedAt.Before(h.changedAt) {
		next = tx.db.steady()
	}
	return []any{r.DeliveryID, DeliveryPending, made, sqldb.Micros(next), sqldb.Micros(time.Time{}), postponed}
}

// writeAttempts writes the rows. A message is that of its delivery's watch; it shows the end
// of the watch now, so no progress of it is due any more.
func (tx *transaction) writeAttempts(deliveries, attempts, messages [][]any) error {
	err := tx.UpdateRows(sqldb.RowsUpdate{
		Head: `UPDATE deliveries SET status = v.column2, attempts_made = v.column3, next_attempt_at = v.column4,
			finished_at = v.column5, step = deliveries.step + CASE WHEN v.column6 = 0 THEN 1 ELSE 0 END,
			postponed = deliveries.postponed + v.column6`,
		Rows: deliveries,
		Key:  "deliveries.id",
		Tail: `WHERE TRUE`,
	})
	if err != nil {
		return err
	}
	err = tx.InsertRows(`INSERT INTO attempts (delivery_id, number, started_at, duration, status_code,
		error, response_body)`, attempts)
	if err != nil || len(messages) == 0 {
		return err
	}
	return tx.UpdateRows(sqldb.RowsUpdate{
		Head: `UPDATE slack_messages SET channel = v.column2, ts = v.column3, shown_revision = slack_messages.revision`,
		Rows: messages,
		Key:  "d.id",
		Tail: `, deliveries d WHERE slack_messages.watch_id = d.watch_id
			AND slack_messages.destination_id = d.destination_id`,
	})
}
