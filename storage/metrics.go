package storage

import (
	"context"
	"maps"
	"sync"
	"time"

	"oprelay/storage/sqldb"
)

// The states of a budget whose operations wait for longer than their own intervals.
const (
	BudgetParked    = "parked"    // the upstream has locked it out
	BudgetExhausted = "exhausted" // all that it allows for now is spent
	BudgetScarce    = "scarce"    // polls are planned so that it lasts
)

// DestinationFailing is the state in StateCounts of an enabled destination that has accepted
// nothing since a failure.
const DestinationFailing = "failing"

// StateCounts is how many budgets and destinations there are by state. Every state is there.
type StateCounts struct {
	Budgets      map[string]int // those in a state above
	Destinations map[string]int // those that are not deleted
	// BudgetsLeft is the part that each budget in use has left for now, 0 to 1, in no order.
	BudgetsLeft []float64
}

// StateCounts counts budgets and destinations of all tenants. It reads all their rows, so it
// is not for each request. BudgetsLeft is filled in unless budgets is nil.
func (s *Store) StateCounts(ctx context.Context, budgets Budgets) (_ StateCounts, err error) {
	defer wrapf(&err, "count states")
	c := StateCounts{
		Budgets:      map[string]int{BudgetParked: 0, BudgetExhausted: 0, BudgetScarce: 0},
		Destinations: map[string]int{DestinationEnabled: 0, DestinationFailing: 0, DestinationDisabled: 0},
	}
	// not_before is when a budget without a lease allows something again.
	err = s.count(ctx, c.Budgets, `SELECT CASE WHEN b.parked_until > $1 THEN 'parked'
		WHEN g.not_before > $1 THEN 'exhausted' ELSE 'scarce' END, COUNT(*)
		FROM work_groups g JOIN budgets b ON b.id = g.id
		WHERE g.kind = 'poll' AND (g.not_before > $1 OR b.growth > 1 AND g.due_at IS NOT NULL) GROUP BY 1`,
		s.db.steady().UnixMicro())
	if err == nil {
		err = s.count(ctx, c.Destinations, `SELECT CASE WHEN status = 'enabled' AND failing_since IS NOT NULL THEN 'failing'
			ELSE status END, COUNT(*) FROM destinations WHERE deleted_at IS NULL GROUP BY 1`)
	}
	if err == nil && budgets != nil {
		c.BudgetsLeft, err = s.budgetsLeft(ctx, budgets)
	}
	return c, err
}

// budgetsLeft leaves out the budgets against which nothing stands.
func (s *Store) budgetsLeft(ctx context.Context, budgets Budgets) (left []float64, err error) {
	now := s.db.steady()
	_, err = s.reader().Query(ctx, func(row sqldb.Row) error {
		l, err := scanLedger(row)
		if err != nil {
			return err
		}
		budget := budgets(UpstreamOfBudget(l.id))
		if budget.N == 0 { // of an upstream that has no definition
			return nil
		}
		n, _ := l.at(now, budget).allowance()
		if len(l.slots) > 0 || n < budget.N {
			left = append(left, float64(n)/float64(budget.N))
		}
		return nil
	}, selectLedger+` WHERE slots <> '' OR parked_until > $1`, now.UnixMicro())
	return left, err
}

// count fills in what the query counts by state.
func (s *Store) count(ctx context.Context, by map[string]int, query string, args ...any) error {
	_, err := s.reader().Query(ctx, func(row sqldb.Row) error {
		var state string
		var n int
		err := row.Scan(&state, &n)
		by[state] = n
		return err
	}, query, args...)
	return err
}

// Counters count what this process has committed since it began. A commit whose outcome is
// unknown does not count.
type Counters struct {
	Registered int64            // watches
	Ended      map[string]int64 // watches by their status; every status is there
	Deleted    map[string]int64 // rows that were old, by their kind; every kind is there
}

// Counters returns the counters. It asks the database nothing.
func (s *Store) Counters() Counters {
	c := s.db.counters
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counters{c.Registered, maps.Clone(c.Ended), maps.Clone(c.Deleted)}
}

type counters struct {
	mu sync.Mutex
	Counters
}

func newCounters() *counters {
	return &counters{Counters: Counters{
		Ended: map[string]int64{
			WatchCompleted: 0, WatchFailed: 0, WatchExpired: 0, WatchUnobservable: 0, WatchCanceled: 0,
		},
		Deleted: map[string]int64{
			DeletedWatches: 0, DeletedOperations: 0, DeletedEvents: 0, DeletedDeliveries: 0, DeletedAttempts: 0, DeletedSlackMessages: 0,
		},
	}}
}

// add counts a transaction, which is committed.
func (c *counters) add(tx *transaction) {
	if tx.registered == 0 && len(tx.ended) == 0 && len(tx.deleted) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Registered += int64(tx.registered)
	for i := range tx.ended {
		c.Ended[tx.ended[i].Status]++
	}
	for kind := range c.Deleted {
		c.Deleted[kind] += int64(tx.deleted[kind])
	}
}

// EndedWatch is how a watch has ended.
type EndedWatch struct {
	ID          string
	OperationID string
	Status      string
	Reason      string // of one that expired, or became unobservable
	Polls       int
	Took        time.Duration // since it was registered
}

func (db *database) tellEnded(watches []EndedWatch) {
	if onEnded := db.onEnded.Load(); onEnded != nil && len(watches) > 0 {
		(*onEnded)(watches)
	}
}

func (db *database) tellRecorded(results map[GroupKind]int) {
	if onRecorded := db.onRecorded.Load(); onRecorded != nil {
		for kind, n := range results {
			(*onRecorded)(kind, n)
		}
	}
}
