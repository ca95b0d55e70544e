package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
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
}

// RecordAttempts writes attempts at any destinations, what became of their deliveries,
// and the health of the destinations, in one transaction; those at one destination are
// in the order in which they ended. A result is dropped if the delivery was
// attempted by another meanwhile. What is still to be delivered is held if the
// destination is disabled, and pending if it is not.
func (s *Store) RecordAttempts(ctx context.Context, results []AttemptResult) error {
	return s.recordAttempts(ctx, results, s.db.dialect.forUpdate)
}

// ErrLocked is that another transaction has locked what was not to be waited for.
var ErrLocked = errors.New("locked by another transaction")

// RecordAttemptsNow is RecordAttempts, but ErrLocked where it would wait for a
// destination: so who records for many is not kept by one.
func (s *Store) RecordAttemptsNow(ctx context.Context, results []AttemptResult) error {
	return s.recordAttempts(ctx, results, s.db.dialect.forUpdate+s.db.dialect.skipLocked)
}

func (s *Store) recordAttempts(ctx context.Context, results []AttemptResult, lock string) error {
	err := s.write(ctx, func(tx *transaction) error {
		records, err := tx.lockHealth(ctx, results, lock)
		if err != nil {
			return err
		}
		if lock != s.db.dialect.forUpdate && slices.Contains(slices.Collect(maps.Values(records)), nil) {
			return ErrLocked
		}
		statuses, err := tx.lockDeliveries(ctx, results)
		if err != nil {
			return err
		}
		var updates, attempts, messages [][]any
		for _, r := range results {
			status, known := statuses[r.DeliveryID]
			health := records[r.DestinationID]
			if !known || health == nil {
				continue
			}
			updates = append(updates, tx.deliveryRow(r, status, health))
			attempts = append(attempts, []any{
				r.DeliveryID, r.AttemptsMade + 1, tx.db.dated(r.Attempt.StartedAt).UnixMicro(), r.Attempt.Duration.Microseconds(),
				r.Attempt.StatusCode, clean(r.Attempt.Error), append([]byte{}, r.Attempt.ResponseBody...),
			})
			if r.Slack.TS != "" {
				messages = append(messages, []any{r.DeliveryID, clean(r.Slack.Channel), clean(r.Slack.TS)})
			}
			health.count(r)
		}
		if err := tx.writeAttempts(updates, attempts, messages); err != nil {
			return err
		}
		return tx.writeHealth(records)
	})
	if err != nil {
		return fmt.Errorf("record %d attempts: %w", len(results), err)
	}
	return nil
}

// health is a destination's record of failures; the row is locked.
type health struct {
	enabled      bool
	failingSince time.Time
	failures     int
	changed      bool
}

// count adds an attempt to the record: a success clears it.
func (h *health) count(r AttemptResult) {
	if r.Status == DeliverySucceeded {
		h.changed = h.changed || h.failures > 0 || !h.failingSince.IsZero()
		h.failures, h.failingSince = 0, time.Time{}
		return
	}
	h.changed = true
	h.failures++
	h.failingSince = earliestSet(h.failingSince, r.Attempt.StartedAt)
}

// lockHealth locks the destinations, deleted or not, and reads their records.
func (tx *transaction) lockHealth(ctx context.Context, results []AttemptResult, lock string) (map[string]*health, error) {
	records := map[string]*health{}
	for _, r := range results {
		records[r.DestinationID] = nil
	}
	var args arguments
	_, err := queryAll(ctx, tx, func(row scanner) (struct{}, error) {
		var id string
		var h health
		err := row.Scan(&id, &h.enabled, timeColumn{&h.failingSince}, &h.failures)
		records[id] = &h
		return struct{}{}, err
	}, `SELECT id, status = 'enabled', failing_since, consecutive_failures FROM destinations
		WHERE `+tx.db.dialect.in(&args, "id", slices.Sorted(maps.Keys(records)))+` ORDER BY id`+lock, args...)
	return records, err
}

// writeHealth writes the records that changed, which they seldom do.
func (tx *transaction) writeHealth(records map[string]*health) error {
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(records)) {
		if h := records[id]; h != nil && h.changed {
			rows = append(rows, []any{id, instant(h.failingSince), h.failures})
		}
	}
	return tx.updateRows(rowsUpdate{
		head: `UPDATE destinations SET failing_since = v.column2, consecutive_failures = v.column3`,
		rows: rows,
		key:  "destinations.id",
		tail: `WHERE TRUE`,
	})
}

// lockDeliveries locks those deliveries that nobody attempted since, and
// returns their statuses.
func (tx *transaction) lockDeliveries(ctx context.Context, results []AttemptResult) (map[string]string, error) {
	before := make(map[string]int, len(results))
	for _, r := range results {
		before[r.DeliveryID] = r.AttemptsMade
	}
	var args arguments
	statuses := map[string]string{}
	_, err := queryAll(ctx, tx, func(row scanner) (struct{}, error) {
		var id, status string
		var made int
		err := row.Scan(&id, &status, &made)
		if made == before[id] {
			statuses[id] = status
		}
		return struct{}{}, err
	}, `SELECT id, status, attempts_made FROM deliveries WHERE `+
		tx.db.dialect.in(&args, "id", slices.Sorted(maps.Keys(before)))+` ORDER BY id`+tx.db.dialect.forUpdate, args...)
	return statuses, err
}

// deliveryRow is what becomes of a delivery that has a status now: id, status,
// attempts made, next attempt, finished.
func (tx *transaction) deliveryRow(r AttemptResult, status string, h *health) []any {
	made, now := r.AttemptsMade+1, tx.db.now()
	switch {
	case r.Status == DeliverySucceeded || (r.Status == DeliveryFailed && status != DeliveryCanceled):
		return []any{r.DeliveryID, r.Status, made, instant(time.Time{}), instant(now)}
	case status == DeliveryCanceled:
		return []any{r.DeliveryID, DeliveryCanceled, made, instant(time.Time{}), instant(now)}
	case !h.enabled:
		return []any{r.DeliveryID, DeliveryHeld, made, instant(time.Time{}), instant(time.Time{})}
	}
	next := earliestSet(r.NextAttemptAt, tx.db.steady())
	return []any{r.DeliveryID, DeliveryPending, made, instant(next), instant(time.Time{})}
}

// writeAttempts writes what RecordAttempts has made out. A message is the one
// of its delivery's watch, and with a message of its end a watch needs no
// further progress shown.
func (tx *transaction) writeAttempts(deliveries, attempts, messages [][]any) error {
	err := tx.updateRows(rowsUpdate{
		head: `UPDATE deliveries SET status = v.column2, attempts_made = v.column3, next_attempt_at = v.column4,
			finished_at = v.column5, step = deliveries.step + 1`,
		rows: deliveries,
		key:  "deliveries.id",
		tail: `WHERE TRUE`,
	})
	if err != nil {
		return err
	}
	err = tx.insertRows(`INSERT INTO attempts (delivery_id, number, started_at, duration, status_code,
		error, response_body)`, attempts)
	if err != nil || len(messages) == 0 {
		return err
	}
	return tx.updateRows(rowsUpdate{
		head: `UPDATE slack_messages SET channel = v.column2, ts = v.column3, shown_revision = slack_messages.revision`,
		rows: messages,
		key:  "d.id",
		tail: `, deliveries d WHERE slack_messages.watch_id = d.watch_id
			AND slack_messages.destination_id = d.destination_id`,
	})
}
