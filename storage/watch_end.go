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

// selectEndingWatch reads open watches: %s is which. An operation is over if it is in operations.
const selectEndingWatch = `SELECT w.id, w.tenant_id, w.operation_ref, w.events, w.name, w.metadata, w.created_at, w.traceparent,
	COALESCE(o.polls, p.polls), o.id IS NOT NULL, COALESCE(o.refused_reason, p.refused_reason), o.last_polled_at, ` + operationColumns + `
	FROM (SELECT watch_id FROM open_watches WHERE %s) AS open JOIN watches w ON w.id = open.watch_id ` + ofOperation

func (db *database) scanEndingWatch(row sqldb.Row) (*endingWatch, error) {
	var w endingWatch
	var over bool
	var refusedReason string
	var polledAt time.Time
	err := row.Scan(append([]any{
		prefixWatch.scan(&w.id), prefixTenant.scan(&w.tenantID), prefixOperation.scan(&w.operationRef),
		scanEvents(&w.events), sqldb.Text(&w.name), sqldb.JSON(&w.metadata),
		sqldb.Time(&w.createdAt), sqldb.Text(&w.traceparent), &w.polls, &over, &refusedReason, sqldb.Time(&polledAt),
	}, w.operation.columns()...)...)
	if w.operation.Status == "" {
		w.refused = refusedReason
	}
	if over {
		w.observedAt = db.dated(polledAt)
		switch w.status = w.operation.Status; w.status {
		case WatchCompleted, WatchFailed:
		default:
			w.status, w.reason = WatchUnobservable, refusedReason
		}
	}
	return &w, err
}

// endWatches ends watches, and then does what is left to do with their operations: before the
// events are published, for from there on the tenants' rows are locked. The end, the event and
// its deliveries are one transaction, so there is exactly one terminal event per watch. The
// alerts are published with these events, so that the tenants' rows are locked in order.
func (tx *transaction) endWatches(ctx context.Context, watches []*endingWatch, then func() error, alerts ...event) error {
	var ended []*endingWatch
	if err := tx.setEnded(watches, func(w *endingWatch) { ended = append(ended, w) }); err != nil {
		return err
	}
	if err := then(); err != nil {
		return err
	}
	if len(watches) == 0 {
		return tx.publish(alerts)
	}
	recipients, err := tx.recipientsOf(ctx, watches) // a query: after it, ended is complete
	if err != nil {
		return err
	}
	slices.SortFunc(ended, func(a, b *endingWatch) int { return strings.Compare(a.id, b.id) })
	now := tx.db.now()
	var events []event
	var uncompleted [][]any
	var shown []*endingWatch // in a bot's message
	for _, w := range ended {
		if w.status != WatchCompleted {
			uncompleted = append(uncompleted, []any{prefixTenant.arg(w.tenantID), w.status, prefixWatch.arg(w.id)})
		}
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
	if err := tx.InsertRows(insertUncompleted, uncompleted); err != nil {
		return err
	}
	if err := tx.publish(append(events, alerts...)); err != nil {
		return err
	}
	return tx.endMessages(ctx, shown)
}

// setEnded ends the watches that are still open, and calls ended for each of these by the end of
// the next query. A watch is open until the row of its end is there.
func (tx *transaction) setEnded(watches []*endingWatch, ended func(*endingWatch)) error {
	if len(watches) == 0 {
		return nil
	}
	now := tx.db.now()
	byID := make(map[string]*endingWatch, len(watches))
	var ends [][]any
	refs := make([]watchRef, len(watches))
	for i, w := range watches {
		w.eventID = tx.db.datedID(prefixEvent, now)
		byID[w.id], refs[i] = w, watchRef{w.id, w.operationRef}
		ends = append(ends, []any{prefixWatch.arg(w.id), w.status, now.UnixMicro(), prefixEvent.arg(w.eventID)})
	}
	err := tx.Upsert(insertEnds, endedOnce+` RETURNING watch_id`, ends, func(row sqldb.Row) error {
		id, err := prefixWatch.read(row)
		if w := byID[id]; w != nil {
			ended(w)
			tx.changes.watch(w.tenantID, w.id)
			tx.ended = append(tx.ended, EndedWatch{
				ID: w.id, OperationID: w.operation.ID, Status: w.status, Reason: w.reason, Polls: w.polls, Took: now.Sub(w.createdAt),
			})
		}
		return err
	})
	if err != nil {
		return err
	}
	var args sqldb.Args
	return tx.Later(`DELETE FROM open_watches WHERE `+tx.among(&args, refs), args...)
}

const (
	insertEnds        = `INSERT INTO watch_ends (watch_id, status, finished_at, event_id)`
	endedOnce         = ` ON CONFLICT (watch_id) DO NOTHING`
	insertUncompleted = `INSERT INTO uncompleted_watches (tenant_id, status, watch_id)`
)

// among is the condition that an open watch is one of these.
func (tx *transaction) among(args *sqldb.Args, watches []watchRef) string {
	rows := make([][]any, len(watches))
	for i, w := range watches {
		rows[i] = []any{prefixOperation.arg(w.operationRef), prefixWatch.arg(w.id)}
	}
	return `(operation_ref, watch_id) IN (SELECT column1, column2 FROM ` + tx.Values(args, rows) + `)`
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
		err := row.Scan(prefixWatch.scan(&watchID), prefixDestination.scan(&r.id), &status, &r.bot)
		r.disabled = status == DestinationDisabled
		byWatch[watchID] = append(byWatch[watchID], r)
		return err
	}, `SELECT wd.watch_id, d.id, d.status, d.bot FROM watch_destinations wd JOIN destinations d ON d.id = wd.destination_id
		WHERE `+tx.In(&args, "wd.watch_id", prefixWatch.args(ids))+` AND d.deleted_at IS NULL ORDER BY wd.watch_id, wd.position`, args...)
	return byWatch, err
}

// body renders the event of the watch's end.
func (w *endingWatch) body(at time.Time) ([]byte, error) {
	return renderBody(eventOf(w.status), at, operationEventData{
		WatchID: w.id, Operation: operationBody(w.operation), Reason: optional(w.reason),
		ObservedAt: w.observedAt.UTC().Truncate(time.Microsecond), Polls: w.polls, Name: optional(w.name), Metadata: w.metadata,
	})
}

// rejectChunk is how many watches of a rejected credential end in one transaction.
const rejectChunk = 500

// CancelWatch ends a watch without an event. One that has ended is returned as it is.
func (s *Store) CancelWatch(ctx context.Context, tenantID, id string) (canceled Watch, err error) {
	defer wrapf(&err, "cancel watch %s", id)
	err = s.write(ctx, func(tx *transaction) error {
		key, tenant := prefixWatch.arg(id), prefixTenant.arg(tenantID)
		ref, err := sqldb.One(ctx, tx, prefixOperation.read,
			`SELECT operation_ref FROM watches WHERE tenant_id = $1 AND id = $2`, tenant, key)
		if err != nil {
			return err
		}
		_, operations, err := tx.lock(ctx, []string{ref}, true)
		if err != nil {
			return err
		}
		n, err := sqldb.ExecCount(ctx, tx, insertEnds+` VALUES ($1, 'canceled', $2, NULL)`+endedOnce, key, tx.db.now().UnixMicro())
		if err != nil {
			return err
		}
		if n > 0 {
			if err := tx.Later(insertUncompleted+` VALUES ($1, 'canceled', $2)`, tenant, key); err != nil {
				return err
			}
			err := tx.Later(`DELETE FROM open_watches WHERE operation_ref = $1 AND watch_id = $2`, prefixOperation.arg(ref), key)
			if err != nil {
				return err
			}
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
	where          string // of open_watches, with $1 for value
	value          any
	limit          int
	wait           bool   // for operations that another transaction has locked, else they are skipped
	rejected       string // a credential that must still be rejected for them to end, or ""
}

// endSelected ends the selected watches up to their limit, and says how many. A watch whose
// operation is over (see [Store.EndRemaining]) ends as that did.
func (s *Store) endSelected(ctx context.Context, selected selectedWatches) (n int, err error) {
	candidates, err := sqldb.All(ctx, s.reader(), scanWatchRef, `SELECT watch_id, operation_ref FROM open_watches WHERE `+
		selected.where+` LIMIT $2`, selected.value, selected.limit)
	if err != nil || len(candidates) == 0 {
		return 0, err
	}
	err = s.write(ctx, func(tx *transaction) error {
		if n = 0; selected.rejected != "" {
			_, err := sqldb.One(ctx, tx, prefixCredential.read, `SELECT id FROM credentials
				WHERE id = $1 AND status = 'rejected'`+tx.ForUpdate, prefixCredential.arg(selected.rejected))
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
		watches, err := tx.openWatches(ctx, watchesOf(candidates, locked))
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
		return tx.endWatches(ctx, watches, func() error { return tx.closeIdle(active) })
	})
	return n, err
}

// watchRef is a watch and its operation.
type watchRef struct{ id, operationRef string }

// openWatches reads those of the watches that are open, in the order of their ids.
func (tx *transaction) openWatches(ctx context.Context, watches []watchRef) ([]*endingWatch, error) {
	if len(watches) == 0 {
		return nil, nil
	}
	var args sqldb.Args
	return sqldb.All(ctx, tx, tx.db.scanEndingWatch, fmt.Sprintf(selectEndingWatch, tx.among(&args, watches))+` ORDER BY w.id`, args...)
}

func scanWatchRef(row sqldb.Row) (w watchRef, err error) {
	err = row.Scan(prefixWatch.scan(&w.id), prefixOperation.scan(&w.operationRef))
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

// watchesOf returns those watches whose operation is one of these.
func watchesOf(watches []watchRef, operationRefs []string) (of []watchRef) {
	for _, w := range watches {
		if slices.Contains(operationRefs, w.operationRef) {
			of = append(of, w)
		}
	}
	return of
}

// rejectCredential rejects a credential that the upstream has refused since refusedBefore or
// longer, and returns the event for the tenant's alerts destinations. It returns nil if the
// credential was accepted meanwhile, or is rejected already. EndRejected ends its watches.
func (tx *transaction) rejectCredential(ctx context.Context, id string, refusedBefore time.Time) (*event, error) {
	n, err := sqldb.ExecCount(ctx, tx, `UPDATE credentials SET status = 'rejected'
		WHERE id = $1 AND status = 'active' AND refused_since <= $2 AND deleted_at IS NULL`,
		prefixCredential.arg(id), refusedBefore.UnixMicro())
	if err != nil || n == 0 {
		return nil, err
	}
	c, err := sqldb.One(ctx, tx, scanCredential, selectCredential+`AND id = $1`, prefixCredential.arg(id))
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
			where: fmt.Sprintf(`operation_ref IN (SELECT id FROM open_operations
				WHERE credential_id = $1 ORDER BY identity LIMIT %d)`, rejectChunk),
			value: prefixCredential.arg(id), rejected: id,
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
	_, err := tx.endWatchesOf(ctx, rowIDs, tx.db.endMost, alerts...)
	return err
}

// endWatchesOf ends up to limit watches of operations that are over, and says how many.
// Operations without others are open no longer.
func (tx *transaction) endWatchesOf(ctx context.Context, rowIDs []string, limit int, alerts ...event) (int, error) {
	if len(rowIDs) == 0 {
		return 0, tx.publish(alerts)
	}
	var args sqldb.Args
	of := tx.In(&args, "operation_ref", prefixOperation.args(rowIDs)) + ` LIMIT ` + args.Add(limit)
	watches, err := sqldb.All(ctx, tx, tx.db.scanEndingWatch, fmt.Sprintf(selectEndingWatch, of), args...)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(watches, func(a, b *endingWatch) int { return strings.Compare(a.id, b.id) })
	return len(watches), tx.endWatches(ctx, watches, func() error { return tx.forgetEnded(rowIDs, len(watches) == limit) }, alerts...)
}

// endingAtOnce is of how many operations EndRemaining ends watches in one transaction.
const endingAtOnce = 100

// EndRemaining ends watches of operations that ended while more watched them than one
// transaction ends: up to limit of them, as the operation did, and says how many. Fewer
// than limit: those were the last.
func (s *Store) EndRemaining(ctx context.Context, limit int) (n int, err error) {
	defer wrapf(&err, "end the remaining watches")
	const ending = `SELECT id FROM open_operations WHERE budget_id = ''`
	found, err := sqldb.All(ctx, s.reader(), prefixOperation.read, ending+` LIMIT $1`, endingAtOnce)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	err = s.write(ctx, func(tx *transaction) error {
		var args sqldb.Args
		ids, err := sqldb.All(ctx, tx, prefixOperation.read, ending+` AND `+tx.In(&args, "id", prefixOperation.args(found))+operationOrder+
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
		return nil
	})
	return n, err
}
