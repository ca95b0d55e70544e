package storage

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// DuePoll is an operation whose status is to be asked now. Its times are steady.
type DuePoll struct {
	RowID                  string
	TenantID               string
	CredentialID           string
	Source                 string
	AccountID              string
	OperationID            string
	CreatedAt              time.Time
	DueAt                  time.Time
	Polls                  int
	Status                 string // "" until seen
	RefusedSince           time.Time
	RefusedReason          string
	CredentialRefusedSince time.Time
	Traceparent            string    // of the registration that began the polls; "" for none
	SendBy                 time.Time // the charge holds no longer
}

// TakePolls asks for work of a poll group.
type TakePolls struct {
	Group       string // the budget's id
	Owner       string
	Budget      Budget
	Max         int
	Exclude     map[string]bool // RowIDs in flight
	MinInterval time.Duration   // the shortest time between two polls of an operation
}

// %s is the operations.
const selectDuePoll = `SELECT o.id, o.tenant_id, o.credential_id, o.source, o.account_id, o.operation_id,
	o.created_at, o.due_at, o.polls, o.status, o.refused_since, o.refused_reason, c.refused_since, o.traceparent
	FROM %s o JOIN credentials c ON c.id = o.credential_id `

func scanDuePoll(row scanner) (DuePoll, error) {
	var p DuePoll
	err := row.Scan(&p.RowID, &p.TenantID, &p.CredentialID, &p.Source, &p.AccountID, &p.OperationID,
		timeColumn{&p.CreatedAt}, timeColumn{&p.DueAt}, &p.Polls, &p.Status, timeColumn{&p.RefusedSince}, &p.RefusedReason,
		timeColumn{&p.CredentialRefusedSince}, textColumn{&p.Traceparent})
	return p, err
}

// TakePolls returns up to Max operations to poll, each charged to the budget:
// it must be sent before its SendBy, or not at all. When
// the budget gave less than there was to do, notBefore is from when on it gives
// more. ErrLeaseLost if Owner does not hold the group's lease.
//
// Half of the places go to the youngest operations: most end soon after they
// began, so a request is worth most there. The other half goes, among those that
// have been due for longest, to those whose wait is longest in proportion to the
// interval that they were to wait, so that none starves. What is not a whole
// place goes by lot.
func (s *Store) TakePolls(ctx context.Context, take TakePolls) (polls []DuePoll, notBefore time.Time, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		polls, notBefore = nil, time.Time{}
		budget, err := tx.lockBudget(ctx, take.Group, take.Owner)
		if err != nil {
			return err
		}
		now := tx.db.steady()
		allowed, next := budget.allowance(now, take.Budget)
		if allowed == 0 {
			notBefore = next
			return nil
		}
		polls, err = tx.duePolls(ctx, take, min(allowed, take.Max))
		if err != nil || len(polls) == 0 {
			return err
		}
		budget.charge(now, take.Budget, len(polls))
		for i := range polls {
			polls[i].SendBy = now.Add(take.Budget.Per / slotsPerWindow)
		}
		if left, next := budget.allowance(now, take.Budget); left == 0 && len(polls) < take.Max {
			notBefore = next
		}
		return tx.later(ctx, `UPDATE budgets SET slots = $1, hint_remaining = $2 WHERE id = $3`,
			budget.text(), budget.hintRemaining, take.Group)
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("take polls of %s: %w", take.Group, err)
	}
	return polls, notBefore, nil
}

// duePolls selects up to limit operations that are due and not in flight. However
// many are due, it reads a few times the limit of them, by the indexes. On the way to
// the young it passes over entries of those that are not due: they were polled within
// their interval, so there are no more of them than the budget allowed meanwhile.
func (tx *transaction) duePolls(ctx context.Context, take TakePolls, limit int) ([]DuePoll, error) {
	exclude := slices.Sorted(maps.Keys(take.Exclude))
	waiting, err := tx.longestWaiting(ctx, take, exclude, limit)
	if err != nil || len(waiting) < limit {
		return waiting, err // that is all there is
	}
	var args arguments
	young, err := queryAll(ctx, tx, scanDuePoll, fmt.Sprintf(selectDuePoll, "operations")+tx.duePoll(&args, take, exclude)+
		` ORDER BY o.created_at DESC LIMIT `+args.add((limit+rand.N(2))/2), args...)
	if err != nil {
		return nil, err
	}
	taken := make(map[string]bool, len(young))
	for _, p := range young {
		taken[p.RowID] = true
	}
	for _, p := range waiting {
		if len(young) < limit && !taken[p.RowID] {
			young = append(young, p)
		}
	}
	return young, nil
}

// longestWaiting selects up to limit of the operations that have been due for
// longest. Among twice as many it takes those first whose wait is longest in
// proportion: each that it passes over comes nearer to being taken.
func (tx *transaction) longestWaiting(ctx context.Context, take TakePolls, exclude []string, limit int) ([]DuePoll, error) {
	var args arguments
	due := tx.duePoll(&args, take, exclude)
	among, least := args.add(2*limit), args.add(max(take.MinInterval.Microseconds(), 1))
	waiting := `(SELECT o.id, o.tenant_id, o.credential_id, o.source, o.account_id, o.operation_id, o.created_at, o.due_at, o.polls,
		o.status, o.refused_since, o.refused_reason, o.traceparent, o.last_polled_at
		FROM operations o ` + due + ` ORDER BY o.due_at LIMIT ` + among + `)`
	return queryAll(ctx, tx, scanDuePoll, fmt.Sprintf(selectDuePoll, waiting)+`
		ORDER BY CAST($2 - o.due_at + `+least+` AS DOUBLE PRECISION)
			/ (`+tx.db.dialect.greatest+`(o.due_at - COALESCE(o.last_polled_at, o.created_at), 0) + `+least+`) DESC, o.due_at
		LIMIT `+args.add(limit), args...)
}

// duePoll is the condition that an operation is due and not in flight; $2 is now.
func (tx *transaction) duePoll(args *arguments, take TakePolls, exclude []string) string {
	due := `WHERE o.budget_id = ` + args.add(take.Group) + ` AND o.active AND o.due_at <= ` +
		args.add(tx.db.steady().UnixMicro())
	if len(exclude) == 0 {
		return due
	}
	return due + ` AND NOT (` + tx.db.dialect.in(args, "o.id", exclude) + `)`
}
