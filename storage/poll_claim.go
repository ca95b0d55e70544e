package storage

import (
	"context"
	"maps"
	"slices"
	"time"

	"oprelay/storage/sqldb"
)

// DuePoll is an operation to poll now. Its times are steady.
type DuePoll struct {
	RowID                  string
	TenantID               string
	CredentialID           string
	Source                 string
	Params                 map[string]string
	OperationID            string
	CreatedAt              time.Time
	DueAt                  time.Time
	Polls                  int
	LastPolledAt           time.Time
	LastPollAsked          bool   // a watch whose deadline has passed waits for it
	Status                 string // "" until seen
	RefusedSince           time.Time
	RefusedReason          string
	CredentialRefusedSince time.Time
	CredentialRefusedAt    time.Time // the last time
	CredentialVersion      int       // of the secret whose budget is charged, see CredentialSecret
	Traceparent            string    // of the registration that began the polls; "" for none
	SendBy                 time.Time // when the charge is forfeited
	Plan                   PollPlan  // of its budget
	Hinted                 bool      // the upstream's own count bounded the charge, see [Store.HintBudget]
}

// fresh says whether the operation waits for its first poll.
func (p *DuePoll) fresh() bool { return p.LastPolledAt.IsZero() && p.DueAt.Equal(p.CreatedAt) }

// TakePolls asks for work of a poll group.
type TakePolls struct {
	Group     string // the budget's id
	Owner     string
	Budget    Budget
	Max       int
	Exclude   map[string]bool // RowIDs in flight
	Intervals Intervals
	Grace     time.Duration // how long a credential may be refused
	// Ended are the operations of the group that were found to have ended since the last
	// call. While the budget is scarce, their contemporaries are polled before they are due.
	Ended []DuePoll
	// Redirected is how many requests were made since the last call beyond those that it charged.
	Redirected int
}

// TakenPolls are operations to poll. Each is charged to the budget, and must be polled
// before its SendBy or not at all.
type TakenPolls struct {
	Polls []DuePoll
	// Pause says when to come back if the budget gave less than there was to do.
	Pause Pause
	// Asked is how many times the budget the operations would take at their own intervals.
	// It is set once an hour, and only above 2.
	Asked float64
}

// TakePolls returns up to Max operations to poll. ErrLeaseLost if Owner does not hold
// the group's lease. Those that have been due for longest come first, but half of the
// places are for first polls, the youngest first. First polls that the budget does not
// afford at once are planned like all others, see [PollPlan].
func (s *Store) TakePolls(ctx context.Context, take TakePolls) (taken TakenPolls, err error) {
	defer wrapf(&err, "take polls of %s", take.Group)
	err = s.write(ctx, func(tx *transaction) error {
		taken = TakenPolls{}
		ledger, err := tx.lockBudget(ctx, take.Group, take.Owner)
		if err != nil {
			return err
		}
		now := tx.db.steady()
		c := &pollClaim{transaction: tx, take: take, ledger: ledger.at(now, take.Budget), now: now}
		err = c.run(ctx)
		taken = c.taken
		return err
	})
	return taken, err
}

// pollClaim is one call of TakePolls. It has locked the budget.
type pollClaim struct {
	*transaction
	take   TakePolls
	ledger *ledger
	now    time.Time

	taken    TakenPolls
	firsts   int             // first polls among the taken
	left     int             // requests that may still be charged
	later    []plannedAt     // due times to change
	deferred bool            // the budget does not afford all first polls now
	waiting  bool            // nor all others that are due
	probed   map[string]bool // refused credentials for which a poll is taken
}

// plannedAt is an operation's new due time.
type plannedAt struct {
	rowID string
	due   time.Time
	held  bool // for the budget
}

func (c *pollClaim) run(ctx context.Context) error {
	c.ledger.charge(c.take.Redirected, 0)
	allowed, next := c.ledger.allowance()
	if allowed == 0 {
		c.taken.Pause = Pause{Until: next}
		if c.take.Redirected == 0 {
			return nil
		}
		return c.save()
	}
	c.left = allowed
	due, err := c.due(ctx, min(allowed, c.take.Max))
	if err != nil {
		return err
	}
	changed, err := c.plan(ctx, due)
	if err != nil {
		return err
	}
	for i := range due {
		c.choose(&due[i])
	}
	if err := c.neighbours(ctx); err != nil {
		return err
	}
	if c.deferred {
		if err := c.deferFresh(ctx); err != nil {
			return err
		}
	}
	if err := c.move(ctx); err != nil {
		return err
	}
	c.ledger.charge(len(c.taken.Polls), c.firsts)
	switch slotEnd := time.UnixMicro(c.ledger.current + c.take.Budget.slotLength()); {
	case c.deferred: // no first poll that was counted is forgotten before the next slot
		c.ledger.firstPollsAt, changed = slotEnd, true
	case c.ledger.firstPollsAt.After(slotEnd): // the steady time went back
		c.ledger.firstPollsAt, changed = time.Time{}, true
	}
	switch left, next := c.ledger.allowance(); {
	case left == 0 && len(c.taken.Polls) < c.take.Max:
		c.taken.Pause = Pause{Until: next}
	case c.waiting:
		c.taken.Pause = Pause{Until: c.ledger.moreThan(c.ledger.kept()), ButNew: true}
	}
	if c.ledger.plan.Scarce() && len(c.taken.Polls) > 0 {
		c.taken.Pause.Again = c.now.Add(replanAfter)
	}
	if len(c.taken.Polls) == 0 && c.take.Redirected == 0 && !changed {
		return nil
	}
	return c.save()
}

// save writes what the budget was charged, and its plan.
func (c *pollClaim) save() error {
	l := c.ledger
	return c.Later(`UPDATE budgets SET slots = $1, hint_remaining = $2, growth = $3, longest = $4,
		first_polls_at = $5, first_wait = $6, planned_at = $7, short_said_at = $8 WHERE id = $9`,
		l.text(), l.hintRemaining, l.plan.Growth, l.plan.Longest.Microseconds(), max(l.firstPollsAt.UnixMicro(), 0),
		l.plan.Interval(c.take.Intervals, 0).Microseconds(), max(l.plannedAt.UnixMicro(), 0), max(l.shortSaidAt.UnixMicro(), 0), c.take.Group)
}

// choose takes an operation that is due, or leaves it for later. First polls may use a
// part of the budget that is kept for them; all others leave that untouched.
func (c *pollClaim) choose(p *DuePoll) {
	if probe := c.probeAt(p); probe.After(c.now) {
		c.later = append(c.later, plannedAt{p.RowID, probe, false})
		return
	}
	switch scarce := c.ledger.plan.Scarce(); {
	case p.fresh() && c.left > 0 && (!scarce || c.ledger.firstLeft() > c.firsts):
		c.firsts++
	case p.fresh() && scarce:
		c.deferred = true
		return
	case c.left <= c.ledger.kept():
		c.waiting = true
		return
	}
	c.takePoll(*p)
}

func (c *pollClaim) takePoll(p DuePoll) {
	c.left--
	p.SendBy, p.Plan, p.Hinted = c.now.Add(c.take.Budget.Slot()), c.ledger.plan, c.ledger.hintUntil.After(c.now)
	c.taken.Polls = append(c.taken.Polls, p)
}

// probeAt is when the operation may be polled while its credential is refused; zero if it is not.
// Meanwhile the credential's operations are polled one at a time: at the intervals of an operation
// that began with the refusal, and once when the grace period is over.
func (c *pollClaim) probeAt(p *DuePoll) time.Time {
	if p.CredentialRefusedSince.IsZero() || p.LastPollAsked {
		return time.Time{}
	}
	wait := max(c.take.Intervals.Own(p.CredentialRefusedAt.Sub(p.CredentialRefusedSince)), min(5*c.take.Intervals.Min, c.take.Intervals.Max))
	over := p.CredentialRefusedSince.Add(c.take.Grace)
	probe := p.CredentialRefusedAt.Add(wait)
	if probe.After(over) && c.now.Before(over) {
		probe = over
	}
	if !probe.After(c.now) && c.probed[p.CredentialID] {
		return c.now.Add(wait)
	}
	if !probe.After(c.now) {
		if c.probed == nil {
			c.probed = map[string]bool{}
		}
		c.probed[p.CredentialID] = true
	}
	return probe
}

// Contemporaries are operations that began together, and that often end together.
const (
	crowdSpread = 0.1 // how far apart they began, as a share of the age at which one has ended
	crowdMost   = 2   // how many are polled for each that has ended
	crowdAmong  = 64  // of how many that are due next
)

// neighbours takes contemporaries of operations that have ended, unless they have been
// polled at that age. An extra poll is worth it only where the operation's own intervals are
// shorter than the budget takes to recover.
func (c *pollClaim) neighbours(ctx context.Context) error {
	if !c.ledger.plan.Scarce() || len(c.take.Ended) == 0 || c.left <= c.ledger.kept() {
		return nil
	}
	var args sqldb.Args
	where := `WHERE o.budget_id = ` + args.Add(c.take.Group) + ` AND o.due_at > ` + args.Add(c.now.UnixMicro()) +
		c.notInFlight(&args)
	next, err := sqldb.All(ctx, c.transaction, scanDuePoll, selectDuePoll+where+
		` ORDER BY o.due_at LIMIT `+args.Add(crowdAmong), args...)
	if err != nil {
		return err
	}
	most := min(len(c.taken.Polls)+(c.left-c.ledger.kept()+1)/2, c.take.Max)
	for _, ended := range c.take.Ended {
		age := ended.LastPolledAt.Sub(ended.CreatedAt)
		found := 0
		for i := range next {
			p := &next[i]
			apart := p.CreatedAt.Sub(ended.CreatedAt).Abs()
			saves := c.ledger.plan.Interval(c.take.Intervals, c.now.Sub(p.CreatedAt))*3/2 <= slotsCounted*c.take.Budget.Slot()
			if p.RowID == "" || c.now.Sub(p.CreatedAt)+time.Second < age || p.LastPolledAt.Sub(p.CreatedAt) >= age ||
				float64(apart) > crowdSpread*float64(age) || !saves {
				continue
			}
			if found == crowdMost || len(c.taken.Polls) >= most {
				break
			}
			c.takePoll(*p)
			p.RowID = ""
			found++
		}
	}
	return nil
}

// due selects up to limit operations that are due and not in flight. Half of the places are
// for first polls, the youngest first, the others for those that have been due for longest.
func (c *pollClaim) due(ctx context.Context, limit int) ([]DuePoll, error) {
	var args sqldb.Args
	waiting, err := sqldb.All(ctx, c.transaction, scanDuePoll, selectDuePoll+c.isDue(&args)+
		` ORDER BY o.due_at LIMIT `+args.Add(limit), args...)
	if err != nil {
		return nil, err
	}
	if len(waiting) < limit { // that is all there is
		first := slices.DeleteFunc(slices.Clone(waiting), func(p DuePoll) bool { return !p.fresh() })
		return append(first, slices.DeleteFunc(waiting, func(p DuePoll) bool { return p.fresh() })...), nil
	}
	args = nil
	fresh, err := sqldb.All(ctx, c.transaction, scanDuePoll, selectDuePoll+c.isDue(&args)+
		isFresh+` ORDER BY o.created_at DESC LIMIT `+args.Add((limit+1)/2), args...)
	if err != nil {
		return nil, err
	}
	among := make(map[string]bool, len(fresh))
	for _, p := range fresh {
		among[p.RowID] = true
	}
	for _, p := range waiting {
		if len(fresh) < limit && !among[p.RowID] {
			fresh = append(fresh, p)
		}
	}
	return fresh, nil
}

// isFresh is, word for word, the predicate of the index open_operations_fresh.
const isFresh = ` AND o.last_polled_at IS NULL AND o.due_at = o.created_at`

const selectDuePoll = `SELECT o.id, o.tenant_id, o.credential_id, o.source, o.params, o.operation_id,
	o.created_at, o.due_at, o.polls, o.last_polled_at, o.last_poll_asked_at IS NOT NULL, o.status, o.refused_since, o.refused_reason,
	c.refused_since, c.refused_at, c.version, o.traceparent
	FROM open_operations o JOIN credentials c ON c.id = o.credential_id `

func scanDuePoll(row sqldb.Row) (DuePoll, error) {
	var p DuePoll
	err := row.Scan(prefixOperation.scan(&p.RowID), prefixTenant.scan(&p.TenantID), prefixCredential.scan(&p.CredentialID),
		&p.Source, sqldb.JSON(&p.Params), &p.OperationID,
		sqldb.Time(&p.CreatedAt), sqldb.Time(&p.DueAt), &p.Polls, sqldb.Time(&p.LastPolledAt), &p.LastPollAsked,
		&p.Status, sqldb.Time(&p.RefusedSince), &p.RefusedReason, sqldb.Time(&p.CredentialRefusedSince),
		sqldb.Time(&p.CredentialRefusedAt), &p.CredentialVersion, sqldb.Text(&p.Traceparent))
	return p, err
}

// isDue is the condition that an operation is due and not in flight.
func (c *pollClaim) isDue(args *sqldb.Args) string {
	return `WHERE o.budget_id = ` + args.Add(c.take.Group) + ` AND o.due_at <= ` +
		args.Add(c.now.UnixMicro()) + c.notInFlight(args)
}

func (c *pollClaim) notInFlight(args *sqldb.Args) string {
	if len(c.take.Exclude) == 0 {
		return ""
	}
	return ` AND NOT (` + c.In(args, "o.id", prefixOperation.args(slices.Collect(maps.Keys(c.take.Exclude)))) + `)`
}
