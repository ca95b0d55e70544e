package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// endingWatch is a watch about to leave WatchWatching, for good. Whoever ends
// watches has locked their operations first, so no two can end the same.
type endingWatch struct {
	id           string
	tenantID     string
	operationRef string
	events       []string
	metadata     map[string]string
	traceparent  string // of its registration
	operation    Operation
	polls        int

	// How it ends: known from the start if its operation is over, else set by who ends it.
	status     string // what it becomes
	reason     string // why, for expired and unobservable
	observedAt time.Time
	eventID    string
}

// wants says whether the watch's destinations are told how it ended.
func (w *endingWatch) wants() bool { return slices.Contains(w.events, eventOf(w.status)) }

// eventOf is the type of the event that a watch's end makes.
func eventOf(status string) string { return "operation." + status }

const selectEndingWatch = `SELECT w.id, w.tenant_id, w.operation_ref, w.events, w.metadata, w.traceparent,
	o.source, o.account_id, o.operation_id, o.status, o.error, o.completed_at, o.polls,
	o.active, o.refused_reason, o.last_polled_at
	FROM watches w JOIN operations o ON o.id = w.operation_ref
	WHERE w.finished_at IS NULL AND `

func (db *database) scanEndingWatch(row scanner) (*endingWatch, error) {
	var w endingWatch
	var active bool
	var refusedReason string
	var polledAt time.Time
	err := row.Scan(&w.id, &w.tenantID, &w.operationRef, jsonColumn{&w.events}, jsonColumn{&w.metadata},
		textColumn{&w.traceparent},
		&w.operation.Source, &w.operation.AccountID, &w.operation.ID, &w.operation.Status, &w.operation.Error,
		timeColumn{&w.operation.CompletedAt}, &w.polls, &active, &refusedReason, timeColumn{&polledAt})
	if !active { // the last poll told its end
		w.observedAt = db.dated(polledAt)
		switch w.status = w.operation.Status; w.status {
		case WatchCompleted, WatchFailed:
		default:
			w.status, w.reason = WatchUnobservable, refusedReason
		}
	}
	return &w, err
}

// lockOperations locks the operations of the ids that are active, and returns them.
func (tx *transaction) lockOperations(ctx context.Context, ids []string) ([]lockedOperation, error) {
	var args arguments
	operations, err := queryAll(ctx, tx, scanOperation, `SELECT id, budget_id, status, error, completed_at, active,
		last_poll_asked_at IS NOT NULL
		FROM operations WHERE `+tx.db.dialect.in(&args, "id", ids)+` ORDER BY id`+tx.db.dialect.forUpdate, args...)
	return slices.DeleteFunc(operations, func(o lockedOperation) bool { return !o.active }), err
}

// lockedOperation is an operation whose row is locked.
type lockedOperation struct {
	id          string
	budgetID    string
	status      string
	message     string // the upstream's error message
	completedAt time.Time
	active      bool
	lastPoll    bool // the next poll is the last one that a watch waits for
}

func scanOperation(row scanner) (lockedOperation, error) {
	var o lockedOperation
	err := row.Scan(&o.id, &o.budgetID, &o.status, &o.message, timeColumn{&o.completedAt}, &o.active, &o.lastPoll)
	return o, err
}

// endWatches ends watches: the change of status, the event and its deliveries
// are one transaction, so there is exactly one terminal event per watch.
func (tx *transaction) endWatches(ctx context.Context, watches []*endingWatch) error {
	if len(watches) == 0 {
		return nil
	}
	var ended []*endingWatch
	if err := tx.setEnded(watches, func(w *endingWatch) { ended = append(ended, w) }); err != nil {
		return err
	}
	recipients, err := tx.recipientsOf(ctx, watches) // from here on all that ended are known
	if err != nil {
		return err
	}
	slices.SortFunc(ended, func(a, b *endingWatch) int { return strings.Compare(a.id, b.id) })
	now := tx.db.now()
	var events []event
	var shown []*endingWatch // by a bot's message
	for _, w := range ended {
		body, err := w.body(now)
		if err != nil {
			return fmt.Errorf("watch %s: %w", w.id, err)
		}
		e := event{id: w.eventID, tenantID: w.tenantID, kind: eventOf(w.status), watchID: w.id, traceparent: w.traceparent, body: body}
		if w.wants() {
			e.destinations = recipients[w.id]
		}
		events = append(events, e)
		if slices.ContainsFunc(recipients[w.id], func(r recipient) bool { return r.bot }) {
			shown = append(shown, w)
		}
	}
	if err := tx.publish(ctx, events); err != nil {
		return err
	}
	return tx.endMessages(ctx, shown)
}

// setEnded is the compare-and-set: ended is told of the watches that were watching, by the
// end of the next query.
func (tx *transaction) setEnded(watches []*endingWatch, ended func(*endingWatch)) error {
	now := tx.db.now().UnixMicro()
	byID := make(map[string]*endingWatch, len(watches))
	var rows [][]any
	for _, w := range watches {
		w.eventID = newID(prefixEvent)
		byID[w.id] = w
		rows = append(rows, []any{w.id, w.status, now, w.eventID})
	}
	return tx.updateRows(rowsUpdate{
		head: `UPDATE watches SET status = v.column2, finished_at = v.column3, event_id = v.column4`,
		key:  "watches.id",
		rows: rows,
		tail: `WHERE watches.finished_at IS NULL`, returning: ` RETURNING watches.id`,
		scan: func(row scanner) error {
			id, err := scanString(row)
			if w := byID[id]; w != nil {
				ended(w)
				tx.ended = append(tx.ended, w.status)
			}
			return err
		},
	})
}

// recipientsOf is the destinations of each watch that are not deleted.
func (tx *transaction) recipientsOf(ctx context.Context, watches []*endingWatch) (map[string][]recipient, error) {
	var args arguments
	ids := make([]string, len(watches))
	for i, w := range watches {
		ids[i] = w.id
	}
	byWatch := map[string][]recipient{}
	_, err := queryAll(ctx, tx, func(row scanner) (struct{}, error) {
		var watchID, status string
		var r recipient
		err := row.Scan(&watchID, &r.id, &status, &r.bot)
		r.disabled = status == DestinationDisabled
		byWatch[watchID] = append(byWatch[watchID], r)
		return struct{}{}, err
	}, `SELECT wd.watch_id, d.id, d.status, d.bot FROM watch_destinations wd JOIN destinations d ON d.id = wd.destination_id
		WHERE `+tx.db.dialect.in(&args, "wd.watch_id", ids)+` AND d.deleted_at IS NULL ORDER BY wd.watch_id, wd.position`, args...)
	return byWatch, err
}

// body renders the event of the watch's end.
func (w *endingWatch) body(at time.Time) ([]byte, error) {
	return renderBody(eventOf(w.status), at, operationEventData{
		WatchID: w.id, Operation: operationBody(w.operation), Reason: optional(w.reason),
		ObservedAt: w.observedAt.UTC().Truncate(time.Microsecond), Polls: w.polls, Metadata: w.metadata,
	})
}

// closeIdle closes those of the locked operations that no watch waits for any more.
func (tx *transaction) closeIdle(ctx context.Context, operations []lockedOperation) error {
	ids := make([]string, len(operations))
	for i, o := range operations {
		ids[i] = o.id
	}
	var args arguments
	return tx.later(ctx, `UPDATE operations SET active = FALSE
		WHERE `+tx.db.dialect.in(&args, "id", ids)+` AND NOT EXISTS
		(SELECT 1 FROM watches w WHERE w.operation_ref = operations.id AND w.finished_at IS NULL)`, args...)
}
