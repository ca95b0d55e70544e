package storage

import (
	"context"
	"fmt"
	"time"
)

// DueProgress is a Slack message that does not show its watch's state yet.
type DueProgress struct {
	WatchID  string
	Watch    Watch
	Slack    SlackRef // zero before the message is posted
	Revision int      // what to give back in ProgressResult
}

// ProgressResult is what came of bringing a message up to date.
type ProgressResult struct {
	WatchID       string
	Slack         SlackRef  // zero if nothing was posted
	Revision      int       // of the DueProgress
	NextAttemptAt time.Time // zero when the message shows Revision now
}

// DueProgress returns up to Max messages to bring up to date, by due time. A
// watch that ended is left to the delivery of its event, unless it is canceled,
// or its destinations are not told of that end. ErrLeaseLost if Owner does not
// hold the lease.
func (s *Store) DueProgress(ctx context.Context, take TakeDeliveries) (due []DueProgress, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		if err := tx.holdLease(ctx, Group{DeliverGroup, take.Group}, take.Owner); err != nil {
			return err
		}
		rows, err := queryAll(ctx, tx, scanDueProgress, `SELECT m.watch_id, m.channel, m.ts, m.revision
			FROM slack_messages m JOIN destinations d ON d.id = m.destination_id
			WHERE m.destination_id = $1 AND m.due_at IS NOT NULL AND m.due_at <= $2
			AND d.status = 'enabled' AND d.deleted_at IS NULL ORDER BY m.due_at LIMIT $3`,
			take.Group, tx.db.steady().UnixMicro(), take.Max+len(take.Exclude))
		if err != nil {
			return err
		}
		due = without(rows, take.Exclude, take.Max, func(p DueProgress) string { return p.WatchID })
		ids := make([]string, len(due))
		for i := range due {
			ids[i] = due[i].WatchID
		}
		watches, err := tx.db.readWatches(ctx, tx, ids)
		for i := range due {
			due[i].Watch = watches[due[i].WatchID]
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("due progress of %s: %w", take.Group, err)
	}
	return due, nil
}

func scanDueProgress(row scanner) (DueProgress, error) {
	var p DueProgress
	err := row.Scan(&p.WatchID, &p.Slack.Channel, &p.Slack.TS, &p.Revision)
	return p, err
}

// RecordProgress writes what came of DueProgress. A message that got behind
// again meanwhile stays due; one whose watch ended meanwhile is not due again.
func (s *Store) RecordProgress(ctx context.Context, destinationID string, results []ProgressResult) error {
	// A message that fell behind again while it was shown goes to the back of the
	// queue: others in its channel may not have been posted at all.
	now := s.db.steady().UnixMicro()
	var shown, failed [][]any
	for _, r := range results {
		if r.NextAttemptAt.IsZero() {
			shown = append(shown, []any{r.WatchID, destinationID, r.Revision, clean(r.Slack.Channel), clean(r.Slack.TS), now})
		} else {
			failed = append(failed, []any{r.WatchID, destinationID, r.NextAttemptAt.UnixMicro()})
		}
	}
	err := s.write(ctx, func(tx *transaction) error {
		err := tx.updateRows(rowsUpdate{
			head: `UPDATE slack_messages SET
				shown_revision = ` + tx.db.dialect.greatest + `(slack_messages.shown_revision, v.column3),
				channel = CASE WHEN v.column5 = '' THEN slack_messages.channel ELSE v.column4 END,
				ts = CASE WHEN v.column5 = '' THEN slack_messages.ts ELSE v.column5 END,
				due_at = CASE WHEN slack_messages.revision > v.column3 AND slack_messages.due_at IS NOT NULL
					THEN v.column6 ELSE NULL END`,
			rows: shown,
			key:  "slack_messages.watch_id",
			tail: `WHERE slack_messages.destination_id = v.column2`,
		})
		if err != nil {
			return err
		}
		for _, r := range results {
			if !r.NextAttemptAt.IsZero() {
				tx.markDue(Group{DeliverGroup, destinationID}, r.NextAttemptAt)
			}
		}
		return tx.updateRows(rowsUpdate{
			head: `UPDATE slack_messages SET due_at = v.column3`,
			rows: failed,
			key:  "slack_messages.watch_id",
			tail: `WHERE slack_messages.destination_id = v.column2 AND slack_messages.due_at IS NOT NULL`,
		})
	})
	if err != nil {
		return fmt.Errorf("record progress at %s: %w", destinationID, err)
	}
	return nil
}

// showProgress makes the messages of watches due, for their new state.
func (tx *transaction) showProgress(ctx context.Context, watchIDs []string) error {
	var args arguments
	return tx.advanceMessages(ctx, &args, tx.db.dialect.in(&args, "watch_id", watchIDs))
}

// showOperations makes the messages due of those who still watch the operations: of
// up to most watches. The others show the next state.
func (tx *transaction) showOperations(ctx context.Context, operationRefs []string, most int) error {
	if len(operationRefs) == 0 {
		return nil
	}
	var args arguments
	return tx.advanceMessages(ctx, &args, `watch_id IN (SELECT id FROM watches
		WHERE `+tx.db.dialect.in(&args, "operation_ref", operationRefs)+` AND finished_at IS NULL LIMIT `+args.add(most)+`)`)
}

// advanceMessages makes messages due: at once, unless they wait for Slack.
func (tx *transaction) advanceMessages(ctx context.Context, args *arguments, where string) error {
	now := tx.db.steady()
	destinationIDs, err := queryAll(ctx, tx, scanString, `UPDATE slack_messages
		SET revision = revision + 1, due_at = COALESCE(due_at, CAST(`+args.add(now.UnixMicro())+` AS BIGINT))
		WHERE `+where+` RETURNING destination_id`, *args...)
	for _, id := range destinationIDs {
		tx.markDue(Group{DeliverGroup, id}, now)
	}
	return err
}

// endMessages leaves the messages of ended watches to the deliveries of their
// events, and shows the end in those that get no delivery.
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
	var args arguments
	return tx.later(ctx, `UPDATE slack_messages SET due_at = NULL
		WHERE `+tx.db.dialect.in(&args, "watch_id", told)+` AND due_at IS NOT NULL`, args...)
}

// without leaves out the rows in flight, and cuts to the limit.
func without[T any](rows []T, exclude map[string]bool, limit int, id func(T) string) []T {
	var kept []T
	for _, row := range rows {
		if !exclude[id(row)] && len(kept) < limit {
			kept = append(kept, row)
		}
	}
	return kept
}
