package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// PollResult is what one poll told. Its times are steady, but for CompletedAt,
// which is the upstream's.
type PollResult struct {
	RowID              string
	At                 time.Time
	Next               time.Time // when to poll again, unless End is set
	Status             string    // "" when the poll was inconclusive
	Error              string
	CompletedAt        time.Time // of an operation that completed or failed; At stands in for the zero time
	Problem            string    // why the poll was inconclusive
	RefusedSince       time.Time
	RefusedReason      string // ReasonCredentialRejected or ReasonNotFound
	End                string // "", WatchCompleted, WatchFailed or WatchUnobservable
	CredentialRefused  bool
	CredentialAccepted bool
}

// RecordPolls writes the results of a group's polls, at most one per row, in one
// transaction. Where End is set, the operation is closed and its watches end.
// Results of operations that were closed meanwhile are dropped.
func (s *Store) RecordPolls(ctx context.Context, results []PollResult) error {
	byRow := make(map[string]PollResult, len(results))
	for _, r := range results {
		byRow[r.RowID] = r
	}
	rowIDs := slices.Sorted(maps.Keys(byRow))
	err := s.write(ctx, func(tx *transaction) error {
		if err := tx.recordCredentials(ctx, byRow, rowIDs); err != nil {
			return err
		}
		operations, err := tx.lockOperations(ctx, rowIDs)
		if err != nil {
			return err
		}
		if err := tx.updateOperations(ctx, operations, byRow); err != nil {
			return err
		}
		var ended, moved []string
		for _, o := range operations {
			switch r := byRow[o.id]; {
			case r.End != "":
				ended = append(ended, o.id)
			case r.Status != "" && r.Status != o.status:
				moved = append(moved, o.id)
			}
		}
		if err := tx.endOperations(ctx, ended, byRow); err != nil {
			return err
		}
		return tx.showOperations(ctx, moved)
	})
	if err != nil {
		return fmt.Errorf("record %d polls: %w", len(results), err)
	}
	return nil
}

// updateOperations writes what the polls told, into locked operations.
func (tx *transaction) updateOperations(ctx context.Context, operations []lockedOperation, results map[string]PollResult) error {
	var rows [][]any
	for _, o := range operations {
		r := results[o.id]
		status, message, completedAt := o.status, o.message, o.completedAt
		if r.Status != "" {
			status, message, completedAt = r.Status, clean(r.Error), r.CompletedAt
		}
		next := r.Next
		if r.End == WatchCompleted || r.End == WatchFailed {
			status = r.End
			completedAt = earliestSet(completedAt, tx.db.dated(r.At))
		}
		if r.End != "" {
			next = r.At
		} else {
			tx.markDue(Group{PollGroup, o.budgetID}, next)
		}
		rows = append(rows, []any{
			o.id, next.UnixMicro(), r.At.UnixMicro(), status, message, instant(completedAt), clean(r.Problem),
			instant(r.RefusedSince), r.RefusedReason, r.End == "",
		})
	}
	return tx.updateRows(ctx, rowsUpdate{
		head: `UPDATE operations SET polls = operations.polls + 1, due_at = v.column2, last_polled_at = v.column3, last_poll_asked_at = NULL,
			status = v.column4, error = v.column5, completed_at = v.column6, problem = v.column7,
			refused_since = v.column8, refused_reason = v.column9, active = v.column10`,
		key:  "operations.id",
		rows: rows,
		tail: `WHERE TRUE`,
	})
}

// earliestSet is t, or what stands in for it when it is zero.
func earliestSet(t, instead time.Time) time.Time {
	if t.IsZero() {
		return instead
	}
	return t
}

// endOperations ends the watches of operations that were closed just now.
func (tx *transaction) endOperations(ctx context.Context, rowIDs []string, results map[string]PollResult) error {
	if len(rowIDs) == 0 {
		return nil
	}
	var args arguments
	watches, err := queryAll(ctx, tx, scanEndingWatch,
		selectEndingWatch+tx.db.dialect.in(&args, "w.operation_ref", rowIDs)+` ORDER BY w.id`, args...)
	if err != nil {
		return err
	}
	for _, w := range watches {
		r := results[w.operationRef]
		w.status, w.observedAt = r.End, tx.db.dated(r.At)
		if r.End == WatchUnobservable {
			w.reason = r.RefusedReason
		}
	}
	return tx.endWatches(ctx, watches)
}

// credentialState is what the polls tell of a credential, in the end.
type credentialState struct {
	accepted     bool
	refusedSince time.Time // the first refusal after the last acceptance
}

// recordCredentials notes since when credentials are refused, and that they are
// accepted again. Mostly nothing changes, and then nothing is locked.
func (tx *transaction) recordCredentials(ctx context.Context, results map[string]PollResult, rowIDs []string) error {
	var args arguments
	pairs, err := queryAll(ctx, tx, scanPair,
		`SELECT id, credential_id FROM operations WHERE id IN (`+args.list(rowIDs)+`)`, args...)
	if err != nil {
		return err
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		return cmp.Or(results[a[0]].At.Compare(results[b[0]].At), cmp.Compare(a[0], b[0]))
	})
	states := map[string]credentialState{}
	for _, pair := range pairs {
		state := states[pair[1]]
		if r := results[pair[0]]; r.CredentialAccepted {
			state = credentialState{accepted: true}
		} else if r.CredentialRefused {
			state.refusedSince = earliestSet(state.refusedSince, r.At)
		}
		states[pair[1]] = state
	}
	for _, id := range slices.Sorted(maps.Keys(states)) {
		if err := tx.recordCredential(ctx, id, states[id]); err != nil {
			return err
		}
	}
	return nil
}

func (tx *transaction) recordCredential(ctx context.Context, id string, state credentialState) error {
	c, err := queryOne(ctx, tx, scanCredential, selectCredential+`AND id = $1`, id)
	if errors.Is(err, ErrNotFound) {
		return nil // deleted since
	}
	if err != nil {
		return err
	}
	if state.accepted && (!c.RefusedSince.IsZero() || c.Status != CredentialActive) {
		_, err := tx.ExecContext(ctx, `UPDATE credentials SET refused_since = NULL, status = 'active' WHERE id = $1`, id)
		if err != nil {
			return err
		}
		c.RefusedSince = time.Time{}
	}
	if state.refusedSince.IsZero() || !c.RefusedSince.IsZero() {
		return nil
	}
	_, err = tx.ExecContext(ctx, `UPDATE credentials SET refused_since = COALESCE(refused_since, $1) WHERE id = $2`,
		state.refusedSince.UnixMicro(), id)
	return err
}
