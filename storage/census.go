package storage

import (
	"context"
	"fmt"
)

// The states of a budget that allows nothing now. Any other is at work, or has
// nothing to do.
const (
	BudgetParked    = "parked"    // the upstream has locked it out
	BudgetExhausted = "exhausted" // all that it allows for now is spent
)

// DestinationFailing is what a Census calls a destination that is enabled and has
// accepted nothing since a failure.
const DestinationFailing = "failing"

// Census is how many there are by state; every state is there.
type Census struct {
	Budgets      map[string]int // that allow nothing now
	Destinations map[string]int // that are not deleted
	// BudgetsLeft is what each budget in use has left for now, in no order: 0 for
	// nothing, as while it is parked, to 1.
	BudgetsLeft []float64
}

// Census counts budgets and destinations, of all tenants. It reads all their rows,
// which are few beside what grows: not for each request. What is left of budgets it
// tells if it is told what they allow, as who polls is.
func (s *Store) Census(ctx context.Context, budget Budget) (Census, error) {
	c := Census{
		Budgets:      map[string]int{BudgetParked: 0, BudgetExhausted: 0},
		Destinations: map[string]int{DestinationEnabled: 0, DestinationFailing: 0, DestinationDisabled: 0},
	}
	// Who gives a budget's lease back notes from when on it allows something again.
	err := s.count(ctx, c.Budgets, `SELECT CASE WHEN b.parked_until > $1 THEN 'parked' ELSE 'exhausted' END, COUNT(*)
		FROM work_groups g JOIN budgets b ON b.id = g.id WHERE g.kind = 'poll' AND g.not_before > $1 GROUP BY 1`,
		s.db.steady().UnixMicro())
	if err == nil {
		err = s.count(ctx, c.Destinations, `SELECT CASE WHEN status = 'enabled' AND failing_since IS NOT NULL THEN 'failing'
			ELSE status END, COUNT(*) FROM destinations WHERE deleted_at IS NULL GROUP BY 1`)
	}
	if err == nil && budget.N > 0 {
		c.BudgetsLeft, err = s.budgetsLeft(ctx, budget)
	}
	if err != nil {
		return Census{}, fmt.Errorf("census: %w", err)
	}
	return c, nil
}

// budgetsLeft leaves out the budgets against which nothing stands.
func (s *Store) budgetsLeft(ctx context.Context, budget Budget) (left []float64, err error) {
	now := s.db.steady()
	_, err = queryAll(ctx, s.reader(), func(row scanner) (struct{}, error) {
		l, err := scanLedger(row)
		if err != nil {
			return struct{}{}, err
		}
		n, _ := l.allowance(now, budget)
		if len(l.slots) > 0 || n < budget.N {
			left = append(left, float64(n)/float64(budget.N))
		}
		return struct{}{}, nil
	}, `SELECT slots, parked_until, hint_remaining, hint_until FROM budgets WHERE slots <> '' OR parked_until > $1`, now.UnixMicro())
	return left, err
}

// count fills in what the query counts by state.
func (s *Store) count(ctx context.Context, by map[string]int, query string, args ...any) error {
	_, err := queryAll(ctx, s.reader(), func(row scanner) (struct{}, error) {
		var state string
		var n int
		err := row.Scan(&state, &n)
		by[state] = n
		return struct{}{}, err
	}, query, args...)
	return err
}
