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
	ids, err := tx.insertWatches(ctx, requested, operations, refers)
	if err != nil {
		return nil, err
	}
	tx.registered += len(ids)
	byID, err := tx.db.readWatches(ctx, tx, ids)
	created := make([]Watch, 0, len(ids))
	for _, id := range ids {
		created = append(created, byID[id])
	}
	return created, err
}

// owned is a row that a watch refers to.
type owned struct {
	tenantID string
	budgetID string // of a credential
	bot      bool   // of a destination: a Slack bot
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
	found.credentials, err = tx.owned(ctx, `SELECT id, tenant_id, budget_id, FALSE FROM credentials`, credentials,
		tx.db.dialect.forShare)
	if err != nil {
		return references{}, err
	}
	found.destinations, err = tx.owned(ctx, `SELECT id, tenant_id, '', bot FROM destinations`, destinations, "")
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
		err := row.Scan(&id, &o.tenantID, &o.budgetID, &o.bot)
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

// openOperations finds or starts the active operations, makes them due, and
// returns the ids of their rows. Each stays locked, so it cannot be closed
// before its new watches are there to be ended with it.
func (tx *transaction) openOperations(
	ctx context.Context, requested []NewWatch, refers references,
) (map[operationKey]string, error) {
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
	ids := make(map[operationKey]string, len(rows))
	if len(rows) == 0 {
		return ids, nil
	}
	for chunk := range slices.Chunk(rows, tx.db.dialect.rowsAtOnce(len(rows[0]))) {
		var args arguments
		_, err := queryAll(ctx, tx, func(row scanner) (struct{}, error) {
			var id string
			var key operationKey
			err := row.Scan(&id, &key.credentialID, &key.source, &key.accountID, &key.operationID)
			ids[key] = id
			return struct{}{}, err
		}, `INSERT INTO operations (id, tenant_id, credential_id, budget_id, source, account_id, operation_id,
			active, due_at, created_at, traceparent)`+tx.db.dialect.insertion(&args, chunk)+`
			ON CONFLICT (credential_id, source, account_id, operation_id) WHERE active
			DO UPDATE SET due_at = CASE WHEN operations.last_polled_at > excluded.created_at - `+justPolled+`
				THEN operations.due_at ELSE `+tx.db.dialect.least+`(operations.due_at, excluded.due_at) END
			RETURNING id, credential_id, source, account_id, operation_id`, args...)
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// justPolled is how long ago (in microseconds) a poll counts as a new watch's
// first one too: many watches on one operation are not to cost a poll each.
const justPolled = `1000000`

func compareOperations(a, b operationKey) int {
	return cmp.Or(cmp.Compare(a.credentialID, b.credentialID), cmp.Compare(a.source, b.source),
		cmp.Compare(a.accountID, b.accountID), cmp.Compare(a.operationID, b.operationID))
}

// insertWatches writes the watches, their destinations, and a Slack message to
// be posted for each bot among these.
func (tx *transaction) insertWatches(
	ctx context.Context, requested []NewWatch, operations map[operationKey]string, refers references,
) ([]string, error) {
	now, due := tx.db.now(), tx.db.steady()
	ids := make([]string, len(requested))
	var watches, destinations, messages [][]any
	for i, n := range requested {
		ids[i] = newID(prefixWatch)
		events, err := jsonText(append([]string{}, n.Events...))
		if err != nil {
			return nil, err
		}
		metadata, err := jsonText(maps.Collect(maps.All(n.Metadata)))
		if err != nil {
			return nil, err
		}
		watches = append(watches, []any{
			ids[i], n.TenantID, operations[n.operationKey()], n.CredentialID, n.AccountID, n.OperationID,
			WatchWatching, events, metadata, now.Add(n.Timeout).UnixMicro(), due.Add(n.Timeout).UnixMicro(), now.UnixMicro(),
			nullable(n.Traceparent),
		})
		for position, id := range n.DestinationIDs {
			destinations = append(destinations, []any{ids[i], id, position})
			if refers.destinations[id].bot {
				messages = append(messages, []any{ids[i], id, 1, 0, due.UnixMicro()})
				tx.markDue(Group{DeliverGroup, id}, due)
			}
		}
	}
	err := tx.insertRows(ctx, `INSERT INTO watches (id, tenant_id, operation_ref, credential_id, account_id,
		operation_id, status, events, metadata, expires_at, deadline, created_at, traceparent)`, watches)
	if err != nil {
		return nil, err
	}
	err = tx.insertRows(ctx, `INSERT INTO watch_destinations (watch_id, destination_id, position)`, destinations)
	if err != nil {
		return nil, err
	}
	return ids, tx.insertRows(ctx,
		`INSERT INTO slack_messages (watch_id, destination_id, revision, shown_revision, due_at)`, messages)
}
