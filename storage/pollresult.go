package storage

import (
	"cmp"
	"context"
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
// transaction. Where End is set, the operation is closed and its watches end, in this
// transaction or, where many are left, soon after ([Store.EndRest]). Results of
// operations that were closed meanwhile are dropped.
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
		if err := tx.updateOperations(operations, byRow); err != nil {
			return err
		}
		var ended, moved, lastSeen []string
		for _, o := range operations {
			r := byRow[o.id]
			switch {
			case r.End != "":
				ended = append(ended, o.id)
			case r.Status != "" && r.Status != o.status:
				moved = append(moved, o.id)
			}
			if r.End == "" && o.lastPoll {
				lastSeen = append(lastSeen, o.id)
			}
		}
		if err := tx.endOperations(ctx, ended); err != nil {
			return err
		}
		if err := tx.expirePolled(ctx, lastSeen, touchMost); err != nil {
			return err
		}
		return tx.showOperations(ctx, moved, touchMost)
	})
	if err != nil {
		return fmt.Errorf("record %d polls: %w", len(results), err)
	}
	return nil
}

// updateOperations writes what the polls told, into locked operations.
func (tx *transaction) updateOperations(operations []lockedOperation, results map[string]PollResult) error {
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
	return tx.updateRows(rowsUpdate{
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

// credentialNews is what the polls tell of a credential, in the end.
type credentialNews struct {
	id           string
	troubled     bool // before
	accepted     bool
	refusedSince time.Time // the first refusal after the last acceptance
}

// pollOf is a poll's operation and its credential.
type pollOf struct {
	operationRef, credentialID string
	troubled                   bool // the credential, which is refused or rejected
}

func scanPollOf(row scanner) (pollOf, error) {
	var p pollOf
	err := row.Scan(&p.operationRef, &p.credentialID, &p.troubled)
	return p, err
}

// recordCredentials notes since when credentials are refused, and that they are
// accepted again. Mostly nothing changes, and then nothing is locked.
func (tx *transaction) recordCredentials(ctx context.Context, results map[string]PollResult, rowIDs []string) error {
	var args arguments
	of := `SELECT o.id, c.id, c.status <> 'active' OR c.refused_since IS NOT NULL
		FROM operations o JOIN credentials c ON c.id = o.credential_id
		WHERE ` + tx.db.dialect.in(&args, "o.id", rowIDs) + ` AND c.deleted_at IS NULL`
	if !slices.ContainsFunc(rowIDs, func(id string) bool { return results[id].CredentialRefused }) {
		of += ` AND (c.status <> 'active' OR c.refused_since IS NOT NULL)` // else there is no news
	}
	polls, err := queryAll(ctx, tx, scanPollOf, of, args...)
	if err != nil {
		return err
	}
	slices.SortFunc(polls, func(a, b pollOf) int {
		return cmp.Or(results[a.operationRef].At.Compare(results[b.operationRef].At), cmp.Compare(a.operationRef, b.operationRef))
	})
	all := map[string]credentialNews{}
	for _, p := range polls {
		news := all[p.credentialID]
		if r := results[p.operationRef]; r.CredentialAccepted {
			news = credentialNews{accepted: true}
		} else if r.CredentialRefused {
			news.refusedSince = earliestSet(news.refusedSince, r.At)
		}
		news.id, news.troubled = p.credentialID, p.troubled
		all[p.credentialID] = news
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if err := tx.recordCredential(ctx, all[id]); err != nil {
			return err
		}
	}
	return nil
}

func (tx *transaction) recordCredential(ctx context.Context, news credentialNews) error {
	if news.accepted && news.troubled {
		err := tx.later(ctx, `UPDATE credentials SET refused_since = NULL, status = 'active' WHERE id = $1`, news.id)
		if err != nil {
			return err
		}
	}
	if news.refusedSince.IsZero() {
		return nil
	}
	return tx.later(ctx, `UPDATE credentials SET refused_since = $1 WHERE id = $2 AND refused_since IS NULL`,
		news.refusedSince.UnixMicro(), news.id)
}
