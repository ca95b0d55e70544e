package storage

import (
	"cmp"
	"context"
	"time"

	"oprelay/storage/sqldb"
)

// DueProgress is a Slack message that does not show the state of its watch yet.
type DueProgress struct {
	WatchID   string
	Status    string    // of the watch
	CreatedAt time.Time // the watch, by the wall clock
	Watch     Watch     // see LoadProgress
	Slack     SlackRef  // zero before the message is posted
	Revision  int       // what to give back in ProgressResult
}

// ProgressResult is the result of bringing a message up to date.
type ProgressResult struct {
	WatchID       string
	Slack         SlackRef  // zero if nothing was posted, or a digest was
	Revision      int       // of the DueProgress
	NextAttemptAt time.Time // zero when the message shows Revision now
	Error         string    // why it does not
	PauseUntil    time.Time // when the destination may be sent to again, zero if at once
	Began         time.Time // when the message was sent
}

// DueProgress returns up to Max messages to bring up to date, by due time, without their watches.
// The end of a watch is shown by the delivery of its event instead, unless there is none: the
// watch was canceled, or does not ask for that event. ErrLeaseLost if Owner does not hold the
// lease.
func (s *Store) DueProgress(ctx context.Context, take TakeDeliveries) (due []DueProgress, err error) {
	defer wrapf(&err, "due progress of %s", take.Group)
	ready, err := s.readyDestination(ctx, take)
	if err != nil || !ready {
		return nil, err
	}
	rows, err := sqldb.All(ctx, s.reader(), scanDueProgress, `SELECT m.watch_id, m.channel, m.ts, m.revision,
			COALESCE(e.status, 'watching'), w.created_at
		FROM (SELECT watch_id, channel, ts, revision, due_at FROM slack_messages
			WHERE destination_id = $1 AND due_at IS NOT NULL AND due_at <= $2 ORDER BY due_at LIMIT $3) AS m
		JOIN watches w ON w.id = m.watch_id LEFT JOIN watch_ends e ON e.watch_id = m.watch_id ORDER BY m.due_at, m.watch_id`,
		prefixDestination.arg(take.Group), s.db.steady().UnixMicro(), take.Max+len(take.Exclude))
	return without(rows, take.Exclude, take.Max, func(p DueProgress) string { return p.WatchID }), err
}

func scanDueProgress(row sqldb.Row) (DueProgress, error) {
	var p DueProgress
	err := row.Scan(prefixWatch.scan(&p.WatchID), &p.Slack.Channel, &p.Slack.TS, &p.Revision, &p.Status, sqldb.Time(&p.CreatedAt))
	return p, err
}

// LoadProgress reads the watches.
func (s *Store) LoadProgress(ctx context.Context, due []DueProgress) (err error) {
	defer wrapf(&err, "load the watches of %d messages", len(due))
	if len(due) == 0 {
		return nil
	}
	ids := make([]string, len(due))
	for i := range due {
		ids[i] = due[i].WatchID
	}
	watches, err := s.db.readWatches(ctx, s.reader(), ids)
	for i := range due {
		due[i].Watch = watches[due[i].WatchID]
	}
	return err
}

// KeepProgressError keeps why a message could not be updated as the destination's last error.
// Call it before the destination is disabled for that, so that the alert tells why.
func (s *Store) KeepProgressError(ctx context.Context, destinationID string, results []ProgressResult) error {
	lastError := ""
	for _, r := range results {
		lastError = cmp.Or(sqldb.Clean(r.Error), lastError)
	}
	if lastError == "" {
		return nil
	}
	return s.write(ctx, func(tx *transaction) error {
		return tx.Later(`UPDATE destinations SET last_error = $1 WHERE id = $2 AND status = 'enabled'`,
			lastError, prefixDestination.arg(destinationID))
	})
}

// RecordProgress writes the results. A message whose watch moved on meanwhile stays due, one
// whose watch ended meanwhile is left to the delivery of its event. A watch that a digest told of
// has no message, and gets none before its end.
func (s *Store) RecordProgress(ctx context.Context, destinationID string, results []ProgressResult) (err error) {
	defer wrapf(&err, "record progress at %s", destinationID)
	if len(results) == 0 {
		return nil
	}
	// A message that is behind again goes to the back of the queue: others in its channel may
	// not have been posted at all.
	now, destination := s.db.steady().UnixMicro(), prefixDestination.arg(destinationID)
	var shown, failed [][]any
	var pauseUntil, began time.Time
	for _, r := range results {
		if r.PauseUntil.After(pauseUntil) {
			pauseUntil, began = r.PauseUntil, r.Began
		}
		if r.NextAttemptAt.IsZero() {
			shown = append(shown, []any{
				prefixWatch.arg(r.WatchID), destination, r.Revision, sqldb.Clean(r.Slack.Channel), sqldb.Clean(r.Slack.TS), now,
			})
		} else {
			failed = append(failed, []any{prefixWatch.arg(r.WatchID), destination, r.NextAttemptAt.UnixMicro()})
		}
	}
	return s.write(ctx, func(tx *transaction) error {
		tx.recorded[DeliverGroup] += len(results)
		if err := tx.pause(destinationID, began, pauseUntil); err != nil {
			return err
		}
		if len(shown) > 0 {
			err := tx.Later(`UPDATE destinations SET last_success_at = $1 WHERE id = $2`, tx.db.now().UnixMicro(), destination)
			if err != nil {
				return err
			}
		}
		err := tx.UpdateRows(sqldb.RowsUpdate{
			Head: `UPDATE slack_messages SET
				shown_revision = ` + tx.Greatest + `(slack_messages.shown_revision, v.column3),
				channel = CASE WHEN v.column5 = '' THEN slack_messages.channel ELSE v.column4 END,
				ts = CASE WHEN v.column5 = '' THEN slack_messages.ts ELSE v.column5 END,
				due_at = CASE WHEN slack_messages.revision > v.column3 AND slack_messages.due_at IS NOT NULL
					AND (v.column5 <> '' OR slack_messages.ts <> '') THEN v.column6 ELSE NULL END`,
			Rows: shown,
			Key:  "slack_messages.watch_id",
			Tail: `WHERE slack_messages.destination_id = v.column2`,
		})
		if err != nil {
			return err
		}
		for _, r := range results {
			if !r.NextAttemptAt.IsZero() {
				tx.markDue(Group{DeliverGroup, destinationID}, r.NextAttemptAt)
			}
		}
		return tx.UpdateRows(sqldb.RowsUpdate{
			Head: `UPDATE slack_messages SET due_at = v.column3`,
			Rows: failed,
			Key:  "slack_messages.watch_id",
			Tail: `WHERE slack_messages.destination_id = v.column2 AND slack_messages.due_at IS NOT NULL`,
		})
	})
}

// pause keeps anything from being sent to the destination before until. It does nothing if until
// is zero, if the destination pauses for longer already, or if it was changed after the request
// that asked for the pause began.
func (tx *transaction) pause(destinationID string, began, until time.Time) error {
	if until.IsZero() {
		return nil
	}
	return tx.Later(`UPDATE destinations SET paused_until = $1 WHERE id = $2 AND COALESCE(paused_until, 0) < $1
		AND COALESCE(changed_at, 0) <= $3`, until.UnixMicro(), prefixDestination.arg(destinationID), max(began.UnixMicro(), 0))
}

// showProgress makes the messages of watches due, for their new state.
func (tx *transaction) showProgress(ctx context.Context, watchIDs []string) error {
	var args sqldb.Args
	return tx.advanceMessages(ctx, &args, tx.In(&args, "watch_id", prefixWatch.args(watchIDs)))
}

// showOperations makes messages due of up to most watches that still watch the operations.
// The others show the next state.
func (tx *transaction) showOperations(ctx context.Context, operationRefs []string, most int) error {
	if len(operationRefs) == 0 {
		return nil
	}
	var args sqldb.Args
	return tx.advanceMessages(ctx, &args, `watch_id IN (SELECT watch_id FROM open_watches
		WHERE `+tx.In(&args, "operation_ref", prefixOperation.args(operationRefs))+` LIMIT `+args.Add(most)+`)`)
}

// advanceMessages makes messages due now, unless they are due later already because an
// update failed. Those at deleted destinations stay as they are, and so does what a digest told
// of: it was shown, and there is no message to update.
func (tx *transaction) advanceMessages(ctx context.Context, args *sqldb.Args, where string) error {
	now := tx.db.steady()
	destinationIDs, err := sqldb.All(ctx, tx, prefixDestination.read, `UPDATE slack_messages
		SET revision = revision + 1, due_at = COALESCE(due_at, CAST(`+args.Add(now.UnixMicro())+` AS BIGINT))
		WHERE `+where+` AND (ts <> '' OR shown_revision = 0) AND EXISTS (SELECT 1 FROM destinations d
			WHERE d.id = slack_messages.destination_id AND d.deleted_at IS NULL) RETURNING destination_id`, *args...)
	for _, id := range destinationIDs {
		tx.markDue(Group{DeliverGroup, id}, now)
	}
	return err
}

// endMessages leaves the messages of ended watches to the deliveries of their events, and
// makes those due that get no delivery.
func (tx *transaction) endMessages(ctx context.Context, ended []*endingWatch) error {
	if len(ended) == 0 {
		return nil
	}
	var told, untold []string
	for _, w := range ended {
		if w.wants() {
			told = append(told, w.id)
		} else {
			untold = append(untold, w.id)
		}
	}
	if len(untold) > 0 {
		if err := tx.showProgress(ctx, untold); err != nil {
			return err
		}
	}
	var args sqldb.Args
	return tx.Later(`UPDATE slack_messages SET due_at = NULL
		WHERE `+tx.In(&args, "watch_id", prefixWatch.args(told))+` AND due_at IS NOT NULL`, args...)
}

// without leaves out the rows that are in flight, and returns up to limit of the others.
func without[T any](rows []T, exclude map[string]bool, limit int, id func(T) string) []T {
	var kept []T
	for _, row := range rows {
		if !exclude[id(row)] && len(kept) < limit {
			kept = append(kept, row)
		}
	}
	return kept
}
