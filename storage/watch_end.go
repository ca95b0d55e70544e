package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"oprelay/storage/sqldb"
)

// endingWatch is a watch that is about to leave WatchWatching for good. Whoever ends watches
// locks their operations first, so that no two transactions end the same one.
type endingWatch struct {
	id           string
	tenantID     string
	operationRef string
	events       []string
	name         string
	metadata     map[string]string
	createdAt    time.Time
	traceparent  string // of its registration
	operation    Operation
	polls        int

	// How it ends. If its operation is over this is read with it, else the caller sets it.
	status     string
	reason     string // for expired and unobservable
	observedAt time.Time
	eventID    string

	// refused is why no poll has ever seen the operation: ReasonCredentialRejected or
	// ReasonNotFound, whichever was last. "" if one has seen it, or none told anything.
	refused string
}

// wants says whether the watch's destinations are told how it ended.
func (w *endingWatch) wants() bool { return slices.Contains(w.events, eventOf(w.status)) }

// eventOf is the type of the event that a watch's end makes.
func eventOf(status string) string { return "operation." + status }

const selectEndingWatch = `SELECT w.id, w.tenant_id, w.operation_ref, w.events, w.name, w.metadata, w.created_at, w.traceparent,
	o.polls, o.active, o.refused_reason, o.last_polled_at, ` + operationColumns + `
	FROM watches w JOIN operations o ON o.id = w.operation_ref
	WHERE w.finished_at IS NULL AND `

func (db *database) scanEndingWatch(row sqldb.Row) (*endingWatch, error) {
	var w endingWatch
	var active bool
	var refusedReason string
	var polledAt time.Time
	err := row.Scan(append([]any{
		&w.id, &w.tenantID, &w.operationRef, sqldb.JSON(&w.events), sqldb.Text(&w.name), sqldb.JSON(&w.metadata),
		sqldb.Time(&w.createdAt), sqldb.Text(&w.traceparent), &w.polls, &active, &refusedReason, sqldb.Time(&polledAt),
	}, w.operation.columns()...)...)
	if w.operation.Status == "" {
		w.refused = refusedReason
	}
	if !active {
		w.observedAt = db.dated(polledAt)
		switch w.status = w.operation.Status; w.status {
		case WatchCompleted, WatchFailed:
		default:
			w.status, w.reason = WatchUnobservable, refusedReason
		}
	}
	return &w, err
}

// endWatches ends watches. The change of status, the event and its deliveries are one
// transaction, so there is exactly one terminal event per watch. The alerts are published
// with these events, so that the tenants' rows are locked in order.
func (tx *transaction) endWatches(ctx context.Context, watches []*endingWatch, alerts ...event) error {
	if len(watches) == 0 {
		return tx.publish(alerts)
	}
	var ended []*endingWatch
	if err := tx.setEnded(watches, func(w *endingWatch) { ended = append(ended, w) }); err != nil {
		return err
	}
	recipients, err := tx.recipientsOf(ctx, watches) // a query: after it, ended is complete
	if err != nil {
		return err
	}
	slices.SortFunc(ended, func(a, b *endingWatch) int { return strings.Compare(a.id, b.id) })
	now := tx.db.now()
	var events []event
	var shown []*endingWatch // in a bot's message
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
	if err := tx.publish(append(events, alerts...)); err != nil {
		return err
	}
	return tx.endMessages(ctx, shown)
}

// setEnded sets the status of the watches that are still watching, and calls ended for each
// of these by the end of the next query.
func (tx *transaction) setEnded(watches []*endingWatch, ended func(*endingWatch)) error {
	now := tx.db.now()
	byID := make(map[string]*endingWatch, len(watches))
	var rows [][]any
	for _, w := range watches {
		w.eventID = tx.db.datedID(prefixEvent, now)
		byID[w.id] = w
		rows = append(rows, []any{w.id, w.status, now.UnixMicro(), w.eventID})
	}
	return tx.UpdateRows(sqldb.RowsUpdate{
		Head: `UPDATE watches SET status = v.column2, finished_at = v.column3, event_id = v.column4`,
		Key:  "watches.id",
		Rows: rows,
		Tail: `WHERE watches.finished_at IS NULL`, Returning: ` RETURNING watches.id`,
		Scan: func(row sqldb.Row) error {
			id, err := sqldb.String(row)
			if w := byID[id]; w != nil {
				ended(w)
				tx.changes.watch(w.tenantID, w.id)
				tx.ended = append(tx.ended, EndedWatch{
					ID: w.id, OperationID: w.operation.ID, Status: w.status, Reason: w.reason, Polls: w.polls, Took: now.Sub(w.createdAt),
				})
			}
			return err
		},
	})
}

// recipientsOf returns the destinations of each watch that are not deleted.
func (tx *transaction) recipientsOf(ctx context.Context, watches []*endingWatch) (map[string][]recipient, error) {
	var args sqldb.Args
	ids := make([]string, len(watches))
	for i, w := range watches {
		ids[i] = w.id
	}
	byWatch := map[string][]recipient{}
	_, err := tx.Query(ctx, func(row sqldb.Row) error {
		var watchID, status string
		var r recipient
		err := row.Scan(&watchID, &r.id, &status, &r.bot)
		r.disabled = status == DestinationDisabled
		byWatch[watchID] = append(byWatch[watchID], r)
		return err
	}, `SELECT wd.watch_id, d.id, d.status, d.bot FROM watch_destinations wd JOIN destinations d ON d.id = wd.destination_id
		WHERE `+tx.In(&args, "wd.watch_id", ids)+` AND d.deleted_at IS NULL ORDER BY wd.watch_id, wd.position`, args...)
	return byWatch, err
}

// body renders the event of the watch's end.
func (w *endingWatch) body(at time.Time) ([]byte, error) {
	return renderBody(eventOf(w.status), at, operationEventData{
		WatchID: w.id, Operation: operationBody(w.operation), Reason: optional(w.reason),
		ObservedAt: w.observedAt.UTC().Truncate(time.Microsecond), Polls: w.polls, Name: optional(w.name), Metadata: w.metadata,
	})
}

// closeIdle closes those of the locked operations that no watch waits for any more. A budget
// for which one of them was held back is planned anew, for it has more for the others now.
func (tx *transaction) closeIdle(operations []lockedOperation) error {
	ids := make([]string, len(operations))
	for i, o := range operations {
		ids[i] = o.id
	}
	for _, o := range operations {
		if o.held {
			tx.markDue(Group{PollGroup, o.budgetID}, tx.db.steady())
		}
	}
	var args sqldb.Args
	return tx.Later(`UPDATE operations SET active = FALSE
		WHERE `+tx.In(&args, "id", ids)+` AND NOT EXISTS
		(SELECT 1 FROM watches w WHERE w.operation_ref = operations.id AND w.finished_at IS NULL)`, args...)
}

// rejectChunk is how many watches of a rejected credential end in one transaction.
const rejectChunk = 500

// CancelWatch ends a watch without an event. One that has ended is returned as it is.
func (s *Store) CancelWatch(ctx context.Context, tenantID, id string) (canceled Watch, err error) {
	defer wrapf(&err, "cancel watch %s", id)
	err = s.write(ctx, func(tx *transaction) error {
		ref, err := sqldb.One(ctx, tx, sqldb.String,
			`SELECT operation_ref FROM watches WHERE tenant_id = $1 AND id = $2`, tenantID, id)
		if err != nil {
			return err
		}
		_, operations, err := tx.lock(ctx, []string{ref}, true)
		if err != nil {
			return err
		}
		n, err := sqldb.ExecCount(ctx, tx, `UPDATE watches SET status = 'canceled', finished_at = $1
			WHERE id = $2 AND status = 'watching'`, tx.db.now().UnixMicro(), id)
		if err != nil {
			return err
		}
		if n > 0 {
			if err := tx.closeIdle(operations); err != nil {
				return err
			}
			if err := tx.showProgress(ctx, []string{id}); err != nil {
				return err
			}
		}
		canceled, err = tx.db.readWatch(ctx, tx, tenantID, id)
		if n > 0 {
			tx.changes.watch(tenantID, id)
			tx.ended = append(tx.ended, EndedWatch{
				ID: id, OperationID: canceled.Operation.ID, Status: WatchCanceled, Polls: canceled.Polls,
				Took: canceled.FinishedAt.Sub(canceled.CreatedAt),
			})
		}
		return err
	})
	return canceled, err
}

// selectedWatches is which watches to end, and how.
type selectedWatches struct {
	status, reason string
	where          string // with $1 for value
	value          any
	limit          int
	wait           bool   // for operations that another transaction has locked, else they are skipped
	rejected       string // a credential that must still be rejected for them to end, or ""
}

// endSelected ends the selected watches up to their limit, and says how many. A watch whose
// operation is over (see [Store.EndRemaining]) ends as that did.
func (s *Store) endSelected(ctx context.Context, selected selectedWatches) (n int, err error) {
	candidates, err := sqldb.All(ctx, s.reader(), scanWatchRef, `SELECT id, operation_ref FROM watches WHERE `+
		selected.where+` LIMIT $2`, selected.value, selected.limit)
	if err != nil || len(candidates) == 0 {
		return 0, err
	}
	err = s.write(ctx, func(tx *transaction) error {
		if n = 0; selected.rejected != "" {
			_, err := sqldb.One(ctx, tx, sqldb.String, `SELECT id FROM credentials
				WHERE id = $1 AND status = 'rejected'`+tx.ForUpdate, selected.rejected)
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		locked, active, err := tx.lock(ctx, operationsOf(candidates), selected.wait)
		if err != nil {
			return err
		}
		var args sqldb.Args
		watches, err := sqldb.All(ctx, tx, tx.db.scanEndingWatch, selectEndingWatch+
			tx.In(&args, "w.id", watchesOf(candidates, locked))+` ORDER BY w.id`, args...)
		if err != nil {
			return err
		}
		for _, w := range watches {
			if w.status == "" {
				w.status, w.reason, w.observedAt = selected.status, selected.reason, tx.db.now()
				if w.status == WatchExpired && w.refused != "" {
					w.status, w.reason = WatchUnobservable, w.refused
				}
			}
		}
		n = len(watches)
		if err := tx.endWatches(ctx, watches); err != nil {
			return err
		}
		return tx.closeIdle(active)
	})
	return n, err
}

// watchRef is a watch and its operation.
type watchRef struct{ id, operationRef string }

func scanWatchRef(row sqldb.Row) (w watchRef, err error) {
	err = row.Scan(&w.id, &w.operationRef)
	return w, err
}

// operationsOf returns the operations of the watches.
func operationsOf(watches []watchRef) []string {
	refs := make([]string, len(watches))
	for i, w := range watches {
		refs[i] = w.operationRef
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// watchesOf returns the ids of those watches whose operation is one of these.
func watchesOf(watches []watchRef, operationRefs []string) (ids []string) {
	for _, w := range watches {
		if slices.Contains(operationRefs, w.operationRef) {
			ids = append(ids, w.id)
		}
	}
	return ids
}

// rejectCredential rejects a credential that the upstream has refused since refusedBefore or
// longer, and returns the event for the tenant's alerts destinations. It returns nil if the
// credential was accepted meanwhile, or is rejected already. EndRejected ends its watches.
func (tx *transaction) rejectCredential(ctx context.Context, id string, refusedBefore time.Time) (*event, error) {
	n, err := sqldb.ExecCount(ctx, tx, `UPDATE credentials SET status = 'rejected'
		WHERE id = $1 AND status = 'active' AND refused_since <= $2 AND deleted_at IS NULL`,
		id, refusedBefore.UnixMicro())
	if err != nil || n == 0 {
		return nil, err
	}
	c, err := sqldb.One(ctx, tx, scanCredential, selectCredential+`AND id = $1`, id)
	if err != nil {
		return nil, err
	}
	now := tx.db.now()
	body, err := renderBody(EventCredentialRejected, now, credentialRejectedData{
		CredentialID: c.ID, Name: c.Name, RefusedSince: tx.db.dated(c.RefusedSince), RejectedAt: now,
	})
	if err != nil {
		return nil, err
	}
	alert, err := tx.alert(ctx, event{tenantID: c.TenantID, kind: EventCredentialRejected, body: body}, "")
	return &alert, err
}

// EndRejected ends the watches of a rejected credential as unobservable, some in each
// transaction, until it gets another secret. If the process dies before all have ended,
// their own polls end the others.
func (s *Store) EndRejected(ctx context.Context, id string) (err error) {
	defer wrapf(&err, "end the watches of credential %s", id)
	for {
		n, err := s.endSelected(ctx, selectedWatches{
			status: WatchUnobservable, reason: ReasonCredentialRejected, limit: rejectChunk, wait: true,
			where: `status = 'watching' AND credential_id = $1 ORDER BY id`, value: id, rejected: id,
		})
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

// Any number of watches may share an operation, and no transaction may take sqldb.AnswerTime.
const (
	endMost   = 1024  // how many watches the results of polls end in one transaction
	touchMost = 10000 // of how many watches they change the row, or the Slack message
)

// endOperations ends the watches of operations that were closed just now: up to
// endMost of them, and leaves the others to [Store.EndRemaining].
func (tx *transaction) endOperations(ctx context.Context, rowIDs []string, alerts ...event) error {
	n, err := tx.endWatchesOf(ctx, rowIDs, tx.db.endMost, alerts...)
	if err != nil || n < tx.db.endMost {
		return err
	}
	return tx.noteEnding(rowIDs)
}

// endWatchesOf ends up to limit watches of operations that are closed, and says how many.
func (tx *transaction) endWatchesOf(ctx context.Context, rowIDs []string, limit int, alerts ...event) (int, error) {
	if len(rowIDs) == 0 {
		return 0, tx.publish(alerts)
	}
	var args sqldb.Args
	watches, err := sqldb.All(ctx, tx, tx.db.scanEndingWatch, selectEndingWatch+
		tx.In(&args, "w.operation_ref", rowIDs)+` LIMIT `+args.Add(limit), args...)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(watches, func(a, b *endingWatch) int { return strings.Compare(a.id, b.id) })
	return len(watches), tx.endWatches(ctx, watches, alerts...)
}

// noteEnding notes of closed operations whether some of their watches have still to be ended.
func (tx *transaction) noteEnding(rowIDs []string) error {
	var args sqldb.Args
	return tx.Later(`UPDATE operations SET ending = EXISTS
		(SELECT 1 FROM watches w WHERE w.operation_ref = operations.id AND w.finished_at IS NULL)
		WHERE `+tx.In(&args, "id", rowIDs), args...)
}

// endingAtOnce is of how many operations EndRemaining ends watches in one transaction.
const endingAtOnce = 100

// EndRemaining ends watches of operations that ended while more watched them than one
// transaction ends: up to limit of them, as the operation did, and says how many. Fewer
// than limit: those were the last.
func (s *Store) EndRemaining(ctx context.Context, limit int) (n int, err error) {
	defer wrapf(&err, "end the remaining watches")
	const ending = `SELECT id FROM operations WHERE ending`
	found, err := sqldb.All(ctx, s.reader(), sqldb.String, ending+` LIMIT $1`, endingAtOnce)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	err = s.write(ctx, func(tx *transaction) error {
		var args sqldb.Args
		ids, err := sqldb.All(ctx, tx, sqldb.String, ending+` AND `+tx.In(&args, "id", found)+
			tx.ForUpdate+tx.SkipLocked, args...) // another process ends the others
		if err != nil || len(ids) == 0 {
			n = 0
			return err
		}
		if n, err = tx.endWatchesOf(ctx, ids, limit); err != nil {
			return err
		}
		if len(ids) == endingAtOnce { // there may be more operations
			n = max(n, limit)
		}
		return tx.noteEnding(ids)
	})
	return n, err
}
