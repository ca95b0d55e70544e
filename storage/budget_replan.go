package storage

import (
	"context"
	"maps"
	"slices"
	"time"

	"oprelay/storage/sqldb"
)

const (
	// replanEvery is the time between two plans of a budget, and replanFresh the time
	// while more operations come than may be polled at once.
	replanEvery = time.Second
	replanFresh = 100 * time.Millisecond
	// replanMany is added where counting the operations takes its time.
	replanMany = 10 * time.Second
	// replanAfter is when a scarce budget is planned anew after its last polls: operations
	// that they found to have ended leave more to the others.
	replanAfter = 5 * time.Second
	// planRead is how many operations a plan reads, those due first, so that a million more
	// cost nothing. countMost is up to how many it counts.
	planRead = 1000
	// moveWindows is for how many windows of its budget a plan moves the polls to come, and
	// moveLeast how many it moves at least. What is due later is moved when its turn comes nearer,
	// or if it is due too late.
	moveWindows, moveLeast = 2, 100
	countMost              = 100_000
	// shortSaidEvery is how often a warning says that a budget is far too small: that its
	// operations would take shortOf times as much.
	shortSaidEvery = time.Hour
	shortOf        = 2
)

// plan makes a new plan if it is time, and says whether it did. A budget of which little
// is spent needs none.
func (c *pollClaim) plan(ctx context.Context, due []DuePoll) (bool, error) {
	l, fresh := c.ledger, 0
	for i := range due {
		if due[i].fresh() {
			fresh++
		}
	}
	every := replanEvery
	if fresh > l.firstLeft() || len(c.take.Ended) > 0 && l.plan.Scarce() {
		every = replanFresh
	} else if !l.plan.Scarce() && float64(l.sumSince(0)+len(due)) < firstShare*float64(c.take.Budget.N) {
		return false, nil
	}
	if since := c.now.Sub(l.plannedAt); since < every && since > -2*replanMany { // else the steady time went back
		return false, nil
	}
	outlook, err := c.outlook(ctx)
	if err != nil {
		return false, err
	}
	before := l.plan
	if l.plannedAt = c.now; outlook.total > len(outlook.operations) {
		l.plannedAt = c.now.Add(replanMany)
	}
	if plan := outlook.plan(); plan.differs(before) || plan.Scarce() != before.Scarce() {
		l.plan = plan
	}
	c.replan(outlook, before)
	if asked := outlook.asked(c.take.Budget.N); l.plan.Scarce() && asked > shortOf && c.now.Sub(l.shortSaidAt).Abs() >= shortSaidEvery {
		l.shortSaidAt, c.taken.Asked = c.now, asked
	}
	return true, nil
}

// replan changes the due times of the operations to the new plan: of those due first, and of as
// many others that would wait for longer than the plan has anybody wait. What was registered under
// a longer plan would else stay behind the others, whose turn comes again and again.
func (c *pollClaim) replan(o budgetOutlook, before PollPlan) {
	near := max(moveWindows*c.take.Budget.N, moveLeast)
	late := 0
	for i := range o.operations {
		op := &o.operations[i]
		if op.inFlight || op.fixed || op.fresh || !op.due.After(c.now) {
			continue
		}
		if i >= near {
			if late == near || !op.due.After(c.ledger.plan.latest(o.own, op)) {
				continue
			}
			late++
		}
		due := op.due
		if c.ledger.plan != before {
			due = c.ledger.plan.stretch(o.own, before, op, c.now)
		}
		// A poll in flight while the plan changed was followed by an interval of the old plan.
		if most := c.ledger.plan.latest(o.own, op); due.After(most) {
			due = latest(most, c.now)
		}
		if !due.Equal(op.due) {
			c.later = append(c.later, plannedAt{op.rowID, due, c.ledger.plan.Scarce()})
		}
	}
}

// latest is the later of two times.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// outlook reads what a plan is made from.
func (c *pollClaim) outlook(ctx context.Context) (budgetOutlook, error) {
	l := c.ledger
	o := budgetOutlook{
		own: c.take.Intervals, now: c.now, before: l.plan, left: l.outlook(),
		newcomers: l.newcomers(),
	}
	var err error
	o.operations, err = sqldb.All(ctx, c.transaction, scanPlannedPoll, `SELECT id, operation_id, created_at, last_polled_at, due_at,
		NOT held AND (problem <> '' OR refused_since IS NOT NULL) OR last_poll_asked_at IS NOT NULL
		FROM open_operations WHERE budget_id = $1 ORDER BY due_at LIMIT $2`, c.take.Group, planRead)
	if err != nil {
		return o, err
	}
	for i := range o.operations {
		o.operations[i].inFlight = c.take.Exclude[o.operations[i].rowID]
	}
	if o.total = len(o.operations); o.total == planRead {
		n, err := sqldb.One(ctx, c.transaction, sqldb.Int, `SELECT COUNT(*) FROM (SELECT 1 FROM open_operations
			WHERE budget_id = $1 LIMIT $2) AS counted`, c.take.Group, countMost)
		if err != nil {
			return o, err
		}
		o.total = int(n)
	}
	o.even = c.take.Budget.evenShare(o.total)
	o.newcomers *= o.newcomerCost(l.pollsEach())
	return o, nil
}

func scanPlannedPoll(row sqldb.Row) (plannedPoll, error) {
	var p plannedPoll
	err := row.Scan(prefixOperation.scan(&p.rowID), &p.id, sqldb.Time(&p.created), sqldb.Time(&p.polled), sqldb.Time(&p.due), &p.fixed)
	p.fresh = p.polled.IsZero() && p.due.Equal(p.created)
	return p, err
}

// deferFresh plans the first polls that the budget does not afford at once. Those that are
// taken are left out by move.
func (c *pollClaim) deferFresh(ctx context.Context) error {
	var args sqldb.Args
	fresh, err := sqldb.All(ctx, c.transaction, scanPlannedPoll, `SELECT o.id, o.operation_id, o.created_at, o.last_polled_at, o.due_at, FALSE
		FROM open_operations o `+c.isDue(&args)+isFresh+` ORDER BY o.created_at LIMIT `+args.Add(planRead+len(c.taken.Polls)), args...)
	if err != nil {
		return err
	}
	for _, p := range fresh {
		due := p.created.Add(c.ledger.plan.second(c.take.Intervals, phase(p.id, 0)))
		c.later = append(c.later, plannedAt{p.rowID, due, true})
	}
	return nil
}

// move writes due times, but not those of operations that another transaction has locked,
// nor of those that are taken.
func (c *pollClaim) move(ctx context.Context) error {
	if len(c.later) == 0 {
		return nil
	}
	to := make(map[string]plannedAt, len(c.later))
	for _, m := range c.later {
		to[m.rowID] = m
	}
	for _, p := range c.taken.Polls {
		delete(to, p.RowID)
	}
	var args sqldb.Args
	free, err := sqldb.All(ctx, c.transaction, prefixOperation.read, `SELECT id FROM open_operations WHERE budget_id <> '' AND `+
		c.In(&args, "id", prefixOperation.args(slices.Sorted(maps.Keys(to))))+` ORDER BY id`+c.ForUpdate+c.SkipLocked, args...)
	if err != nil {
		return err
	}
	rows := make([][]any, len(free))
	for i, id := range free {
		rows[i] = []any{prefixOperation.arg(id), to[id].due.UnixMicro(), to[id].held}
	}
	return c.UpdateRows(sqldb.RowsUpdate{
		Head: `UPDATE open_operations SET due_at = v.column2, held = v.column3`, Key: "open_operations.id", Rows: rows, Tail: `WHERE TRUE`,
	})
}
