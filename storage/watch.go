package storage

import (
	"context"
	"fmt"
	"time"
)

// The states of a watch. It leaves WatchWatching once, for good.
const (
	WatchWatching     = "watching"
	WatchCompleted    = "completed"
	WatchFailed       = "failed"
	WatchExpired      = "expired"
	WatchUnobservable = "unobservable"
	WatchCanceled     = "canceled"
)

// Why a watch ended without the end of its operation.
const (
	ReasonDeadline           = "deadline"
	ReasonNotFound           = "not_found"
	ReasonCredentialRejected = "credential_rejected" //nolint:gosec // no credential
)

// Watch is a standing request to tell destinations how an operation ended.
// Polls, LastPolledAt and LastPollError are the operation's, which its watches share.
type Watch struct {
	ID             string
	TenantID       string
	Status         string
	Operation      Operation
	CredentialID   string
	DestinationIDs []string
	Events         []string
	Metadata       map[string]string
	Polls          int
	LastPolledAt   time.Time
	NextPollAt     time.Time // zero unless watching
	LastPollError  string
	ExpiresAt      time.Time
	CreatedAt      time.Time
	FinishedAt     time.Time
	EventID        string
}

// WatchFilter narrows a list of watches; an empty field does not.
type WatchFilter struct {
	TenantID    string // required
	Status      string
	OperationID string
	AccountID   string
}

const selectWatch = `SELECT w.id, w.tenant_id, w.status, w.credential_id, w.events, w.metadata, w.expires_at,
	w.created_at, w.finished_at, w.event_id, o.source, o.account_id, o.operation_id, o.status, o.error,
	o.completed_at, o.polls, o.last_polled_at, o.problem, o.due_at, b.parked_until
	FROM watches w JOIN operations o ON o.id = w.operation_ref LEFT JOIN budgets b ON b.id = o.budget_id `

func (db *database) scanWatch(row scanner) (Watch, error) {
	var w Watch
	var due, parked time.Time
	err := row.Scan(&w.ID, &w.TenantID, &w.Status, &w.CredentialID, jsonColumn{&w.Events}, jsonColumn{&w.Metadata},
		timeColumn{&w.ExpiresAt}, timeColumn{&w.CreatedAt}, timeColumn{&w.FinishedAt}, textColumn{&w.EventID},
		&w.Operation.Source, &w.Operation.AccountID, &w.Operation.ID, &w.Operation.Status, &w.Operation.Error,
		timeColumn{&w.Operation.CompletedAt}, &w.Polls, timeColumn{&w.LastPolledAt}, &w.LastPollError,
		timeColumn{&due}, timeColumn{&parked})
	db.datePolls(&w, due, parked)
	return w, err
}

// datePolls dates the last poll and, while the watch goes on, the next: when it is due,
// or its budget is no longer parked.
func (db *database) datePolls(w *Watch, due, parked time.Time) {
	w.LastPolledAt = db.dated(w.LastPolledAt)
	if w.Status == WatchWatching {
		w.NextPollAt = db.dated(due)
		if parked.After(due) {
			w.NextPollAt = db.dated(parked)
		}
	}
}

// Watch returns one watch of the tenant.
func (s *Store) Watch(ctx context.Context, tenantID, id string) (Watch, error) {
	w, err := s.db.readWatch(ctx, s.reader(), tenantID, id)
	if err != nil {
		return Watch{}, fmt.Errorf("watch %s: %w", id, err)
	}
	return w, nil
}

func (db *database) readWatch(ctx context.Context, q querier, tenantID, id string) (Watch, error) {
	w, err := queryOne(ctx, q, db.scanWatch, selectWatch+`WHERE w.tenant_id = $1 AND w.id = $2`, tenantID, id)
	if err != nil {
		return Watch{}, err
	}
	one := []Watch{w}
	err = db.addDestinations(ctx, q, one)
	return one[0], err
}

// readWatches returns the watches of the ids, by id.
func (db *database) readWatches(ctx context.Context, q querier, ids []string) (map[string]Watch, error) {
	var args arguments
	watches, err := queryAll(ctx, q, db.scanWatch, selectWatch+`WHERE `+db.dialect.in(&args, "w.id", ids), args...)
	if err != nil {
		return nil, err
	}
	if err := db.addDestinations(ctx, q, watches); err != nil {
		return nil, err
	}
	byID := make(map[string]Watch, len(watches))
	for _, w := range watches {
		byID[w.ID] = w
	}
	return byID, nil
}

// addDestinations fills in the DestinationIDs, in the order of the request.
func (db *database) addDestinations(ctx context.Context, q querier, watches []Watch) error {
	index := make(map[string]*Watch, len(watches))
	ids := make([]string, len(watches))
	for i := range watches {
		index[watches[i].ID], ids[i] = &watches[i], watches[i].ID
	}
	var args arguments
	_, err := queryAll(ctx, q, func(row scanner) (struct{}, error) {
		var watchID, destinationID string
		err := row.Scan(&watchID, &destinationID)
		if w := index[watchID]; w != nil {
			w.DestinationIDs = append(w.DestinationIDs, destinationID)
		}
		return struct{}{}, err
	}, `SELECT watch_id, destination_id FROM watch_destinations
		WHERE `+db.dialect.in(&args, "watch_id", ids)+` ORDER BY watch_id, position`, args...)
	return err
}

// Watches lists the tenant's watches, newest first.
func (s *Store) Watches(ctx context.Context, f WatchFilter, page Page) (List[Watch], error) {
	watches, err := queryPage(ctx, s.reader(), pageQuery[Watch]{
		selection: selectWatch + `WHERE TRUE`, scan: s.db.scanWatch, id: func(w Watch) string { return w.ID },
		idColumn: "w.id", tenant: filter{column: "w.tenant_id", value: f.TenantID}, page: page, filters: []filter{
			{"w.status", f.Status, ""}, {"w.operation_id", f.OperationID, ""}, {"w.account_id", f.AccountID, ""},
		},
	})
	if err == nil {
		err = s.db.addDestinations(ctx, s.reader(), watches.Data)
	}
	if err != nil {
		return List[Watch]{}, fmt.Errorf("list watches: %w", err)
	}
	return watches, nil
}
