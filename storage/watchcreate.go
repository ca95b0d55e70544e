package storage

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// NewWatch is what a watch is made from. All slices are kept in their order.
type NewWatch struct {
	TenantID       string
	AccountID      string
	OperationID    string
	CredentialID   string
	DestinationIDs []string
	Events         []string
	Timeout        time.Duration
	Metadata       map[string]string
	Traceparent    string // of the request (W3C Trace Context), "" if it is part of no trace
}

// operationKey is what makes watches share an operation's polls.
type operationKey struct{ credentialID, source, accountID, operationID string }

func (n NewWatch) operationKey() operationKey {
	return operationKey{n.CredentialID, SourceCloudflareLists, n.AccountID, n.OperationID}
}

// CreateWatches registers watches, all or none; their operations are polled at
// once. ErrNotFound if a credential or a destination is not the tenant's (any
// more). It returns them in the order of the request.
func (s *Store) CreateWatches(ctx context.Context, requested []NewWatch) ([]Watch, error) {
	r := &registration{requested: requested}
	err := s.registerAlone(ctx, r)
	return r.made, err
}

// createWatches makes watches whose references have been checked.
func (tx *transaction) createWatches(ctx context.Context, requested []NewWatch, refers references) ([]Watch, error) {
	operations, err := tx.openOperations(ctx, requested, refers)
	if err != nil {
		return nil, err
	}
	created, err := tx.insertWatches(requested, operations, refers)
	tx.registered += len(created)
	return created, err
}

// owned is a row that a watch refers to.
type owned struct {
	tenantID string
	budgetID string    // of a credential
	parked   time.Time // until then its budget is
	bot      bool      // of a destination: a Slack bot
}

// references are the rows that watches refer to, by id.
type references struct{ credentials, destinations map[string]owned }

// references reads what the registrations refer to, and keeps the credentials from
// being deleted. Destinations are not locked: who disables one, or records attempts
// at it, would keep all registrations waiting. One that is deleted meanwhile gets
// nothing, as if that had been a moment later.
func (tx *transaction) references(ctx context.Context, all []*registration) (found references, err error) {
	credentials, destinations := map[string]bool{}, map[string]bool{}
	for _, r := range all {
		for i := range r.requested {
			credentials[r.requested[i].CredentialID] = true
			for _, id := range r.requested[i].DestinationIDs {
				destinations[id] = true
			}
		}
	}
	found.credentials, err = tx.owned(ctx, `SELECT id, tenant_id, budget_id, FALSE,
		(SELECT parked_until FROM budgets WHERE id = credentials.budget_id) FROM credentials`, credentials,
		tx.db.dialect.forShare)
	if err != nil {
		return references{}, err
	}
	found.destinations, err = tx.owned(ctx, `SELECT id, tenant_id, '', bot, NULL FROM destinations`, destinations, "")
	return found, err
}

func (tx *transaction) owned(
	ctx context.Context, selection string, wanted map[string]bool, lock string,
) (map[string]owned, error) {
	var args arguments
	found := make(map[string]owned, len(wanted))
	_, err := queryAll(ctx, tx, func(row scanner) (struct{}, error) {
		var id string
		var o owned
		err := row.Scan(&id, &o.tenantID, &o.budgetID, &o.bot, timeColumn{&o.parked})
		found[id] = o
		return struct{}{}, err
	}, selection+` WHERE `+tx.db.dialect.in(&args, "id", slices.Sorted(maps.Keys(wanted)))+` AND deleted_at IS NULL
		ORDER BY id`+lock, args...)
	return found, err
}

// check is ErrNotFound unless all that the watches refer to is their tenants'.
func (f references) check(requested []NewWatch) error {
	for i := range requested {
		n := &requested[i]
		if c, ok := f.credentials[n.CredentialID]; !ok || c.tenantID != n.TenantID {
			return fmt.Errorf("credential %s: %w", n.CredentialID, ErrNotFound)
		}
		for _, id := range n.DestinationIDs {
			if d, ok := f.destinations[id]; !ok || d.tenantID != n.TenantID {
				return fmt.Errorf("destination %s: %w", id, ErrNotFound)
			}
		}
	}
	return nil
}

// openedOperation is an operation that is watched from now on.
type openedOperation struct {
	ref   string
	watch Watch // what its watches show of it
}

// openOperations finds or starts the active operations, makes them due, and
// returns them. Each stays locked, so it cannot be closed
// before its new watches are there to be ended with it.
func (tx *transaction) openOperations(
	ctx context.Context, requested []NewWatch, refers references,
) (map[operationKey]openedOperation, error) {
	first := map[operationKey]*NewWatch{}
	for i := range requested {
		if n := &requested[i]; first[n.operationKey()] == nil {
			first[n.operationKey()] = n
		}
	}
	now := tx.db.steady()
	var rows [][]any
	for _, key := range slices.SortedFunc(maps.Keys(first), compareOperations) {
		budgetID := refers.credentials[key.credentialID].budgetID
		rows = append(rows, []any{
			newID(prefixOperation), first[key].TenantID, key.credentialID, budgetID, key.source,
			key.accountID, key.operationID, true, now.UnixMicro(), now.UnixMicro(), nullable(first[key].Traceparent),
		})
		tx.markDue(Group{PollGroup, budgetID}, now)
	}
	opened := make(map[operationKey]openedOperation, len(rows))
	if len(rows) == 0 {
		return opened, nil
	}
	for chunk := range slices.Chunk(rows, tx.db.dialect.rowsAtOnce(len(rows[0]))) {
		var args arguments
		_, err := queryAll(ctx, tx, func(row scanner) (struct{}, error) {
			key, o, err := tx.db.scanOpened(row, refers)
			opened[key] = o
			return struct{}{}, err
		}, `INSERT INTO operations (id, tenant_id, credential_id, budget_id, source, account_id, operation_id,
			active, due_at, created_at, traceparent)`+tx.db.dialect.insertion(&args, chunk)+`
			ON CONFLICT (credential_id, source, account_id, operation_id) WHERE active
			DO UPDATE SET due_at = CASE WHEN operations.last_polled_at > excluded.created_at - `+justPolled+`
				THEN operations.due_at ELSE `+tx.db.dialect.least+`(operations.due_at, excluded.due_at) END
			RETURNING id, credential_id, source, account_id, operation_id, status, error, completed_at,
			polls, last_polled_at, problem, due_at`, args...)
		if err != nil {
			return nil, err
		}
	}
	return opened, nil
}

func (db *database) scanOpened(row scanner, refers references) (key operationKey, o openedOperation, err error) {
	w, due := &o.watch, time.Time{}
	err = row.Scan(&o.ref, &key.credentialID, &key.source, &key.accountID, &key.operationID,
		&w.Operation.Status, &w.Operation.Error, timeColumn{&w.Operation.CompletedAt},
		&w.Polls, timeColumn{&w.LastPolledAt}, &w.LastPollError, timeColumn{&due})
	w.Operation.Source, w.Operation.AccountID, w.Operation.ID = key.source, key.accountID, key.operationID
	w.CredentialID, w.Status = key.credentialID, WatchWatching
	db.datePolls(w, due, refers.credentials[key.credentialID].parked)
	return key, o, err
}

// justPolled is how long ago (in microseconds) a poll counts as a new watch's
// first one too: many watches on one operation are not to cost a poll each.
const justPolled = `1000000`

func compareOperations(a, b operationKey) int {
	return cmp.Or(cmp.Compare(a.credentialID, b.credentialID), cmp.Compare(a.source, b.source),
		cmp.Compare(a.accountID, b.accountID), cmp.Compare(a.operationID, b.operationID))
}

// insertWatches writes the watches, their destinations, and a Slack message to
// be posted for each bot among these. It returns what Watch would.
func (tx *transaction) insertWatches(
	requested []NewWatch, operations map[operationKey]openedOperation, refers references,
) ([]Watch, error) {
	now, due := tx.db.now().UTC().Truncate(time.Microsecond), tx.db.steady()
	made := make([]Watch, len(requested))
	var watches, destinations, messages [][]any
	for i, n := range requested {
		o, w := operations[n.operationKey()], &made[i]
		*w = o.watch
		w.ID, w.TenantID, w.CreatedAt, w.ExpiresAt = newID(prefixWatch), n.TenantID, now, now.Add(n.Timeout)
		w.DestinationIDs, w.Events = slices.Clone(n.DestinationIDs), append([]string{}, n.Events...)
		w.Metadata = maps.Collect(maps.All(n.Metadata))
		events, err := jsonText(w.Events)
		if err != nil {
			return nil, err
		}
		metadata, err := jsonText(w.Metadata)
		if err != nil {
			return nil, err
		}
		watches = append(watches, []any{
			w.ID, n.TenantID, o.ref, n.CredentialID, n.AccountID, n.OperationID,
			w.Status, events, metadata, w.ExpiresAt.UnixMicro(), due.Add(n.Timeout).UnixMicro(), now.UnixMicro(),
			nullable(n.Traceparent),
		})
		for position, id := range n.DestinationIDs {
			destinations = append(destinations, []any{w.ID, id, position})
			if refers.destinations[id].bot {
				messages = append(messages, []any{w.ID, id, 1, 0, due.UnixMicro()})
				tx.markDue(Group{DeliverGroup, id}, due)
			}
		}
	}
	err := tx.insertRows(`INSERT INTO watches (id, tenant_id, operation_ref, credential_id, account_id,
		operation_id, status, events, metadata, expires_at, deadline, created_at, traceparent)`, watches)
	if err != nil {
		return nil, err
	}
	err = tx.insertRows(`INSERT INTO watch_destinations (watch_id, destination_id, position)`, destinations)
	if err != nil {
		return nil, err
	}
	return made, tx.insertRows(`INSERT INTO slack_messages (watch_id, destination_id, revision, shown_revision, due_at)`, messages)
}
