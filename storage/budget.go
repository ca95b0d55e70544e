package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"oprelay/storage/sqldb"
)

// Budget allows N requests in any period of length Per.
type Budget struct {
	N   int
	Per time.Duration
}

// Budgets says what a budget of an upstream allows.
type Budgets func(upstream string) Budget

// String is how a setting says it: 120/5m0s.
func (b Budget) String() string { return fmt.Sprintf("%d/%v", b.N, b.Per) }

// A window is counted in ten slots. A request may be sent up to one slot after its charge,
// so the requests of any window were charged within the time of eleven slots, which touches
// at most twelve. So no twelve slots in a row may exceed the budget. They are counted in
// steady time: setting a clock allows no request more.
const (
	slotsPerWindow = 10
	slotsCounted   = 12
)

// ledger is what a budget was charged of late, what else limits it, and its plan.
type ledger struct {
	id            string
	slots         []slot // oldest first
	parkedUntil   time.Time
	hintRemaining int // what the upstream says is left, true until hintUntil
	hintUntil     time.Time

	plan         PollPlan
	firstPollsAt time.Time // until then new operations are planned when they are registered
	plannedAt    time.Time
	shortSaidAt  time.Time

	// What at sets, for all methods:
	now     time.Time
	budget  Budget
	current int64 // the start of the current slot
}

// slot counts the requests charged from start on, for a tenth of the window.
type slot struct {
	start int64 // microseconds since the epoch
	count int
	first int // of them: first polls of operations, sent at once
}

// Slot is the grain in which requests are counted: a tenth of the window. A
// request must be sent within one slot of its charge, or be charged anew.
func (b Budget) Slot() time.Duration { return b.Per / slotsPerWindow }

// slotLength is in microseconds.
func (b Budget) slotLength() int64 { return max(b.Per.Microseconds()/slotsPerWindow, 1) }

// at has the ledger tell how a budget stands at a time, and drops slots that no longer count.
// Slots lie in the future if the steady time went back (the wall clock was set back while no
// process was running). By up to one window the latest slot stays the current one; by more,
// all move back. Either way no charge is forgotten too early.
func (l *ledger) at(now time.Time, budget Budget) *ledger {
	length := budget.slotLength()
	current := now.UnixMicro() - now.UnixMicro()%length
	latest := current
	for _, s := range l.slots {
		latest = max(latest, s.start)
	}
	shift := int64(0)
	if latest-current > budget.Per.Microseconds() {
		shift = latest - current
	} else {
		current = latest
	}
	var kept []slot
	for _, s := range l.slots {
		s.start -= shift
		if s.start > current-slotsCounted*length {
			kept = append(kept, s)
		}
	}
	l.slots, l.now, l.budget, l.current = kept, now, budget, current
	return l
}

// allowance is how many requests may be charged now, and if none, when the next may.
func (l *ledger) allowance() (n int, next time.Time) {
	if n = max(l.slotsLeft(0), 0); n == 0 {
		next = l.slotsAbove(0)
	}
	if l.hinted(n - 1) {
		n = l.hintRemaining
	}
	if n == 0 && l.hinted(0) {
		next = latest(next, l.hintUntil)
	}
	if l.parkedUntil.After(l.now) {
		n, next = 0, latest(next, l.parkedUntil)
	}
	return n, next
}

// hinted says whether the upstream says that no more than n are left.
func (l *ledger) hinted(n int) bool { return l.hintUntil.After(l.now) && l.hintRemaining <= n }

func (l *ledger) sumSince(start int64) (sum int) {
	for _, s := range l.slots {
		if s.start >= start {
			sum += s.count
		}
	}
	return sum
}

// slotsLeft is what the slots leave of the budget when so many further slots have begun.
func (l *ledger) slotsLeft(further int64) int {
	return l.budget.N - l.sumSince(l.current+(further-slotsCounted+1)*l.budget.slotLength())
}

// slotsAbove is the beginning of the next slot in which they leave more than kept.
func (l *ledger) slotsAbove(kept int) time.Time {
	further := int64(1)
	for further < slotsCounted && l.slotsLeft(further) <= kept {
		further++
	}
	return time.UnixMicro(l.current + further*l.budget.slotLength()).UTC()
}

// moreThan is from when on more than kept requests may be charged.
func (l *ledger) moreThan(kept int) time.Time {
	next := l.slotsAbove(kept)
	if l.hinted(kept) && (l.slotsLeft(0) > kept || l.hintUntil.After(next)) {
		return l.hintUntil
	}
	return next
}

// charge counts n requests now, of which some are first polls.
func (l *ledger) charge(n, first int) {
	if n == 0 {
		return
	}
	l.hintRemaining = max(l.hintRemaining-n, 0)
	if last := len(l.slots) - 1; last >= 0 && l.slots[last].start == l.current {
		l.slots[last].count += n
		l.slots[last].first += first
		return
	}
	l.slots = append(l.slots, slot{l.current, n, first})
}

// text is how the slots are kept: START:COUNT:FIRST,...
func (l *ledger) text() string {
	parts := make([]string, len(l.slots))
	for i, s := range l.slots {
		parts[i] = fmt.Sprintf("%d:%d:%d", s.start, s.count, s.first)
	}
	return strings.Join(parts, ",")
}

func parseSlots(text string) ([]slot, error) {
	if text == "" {
		return nil, nil
	}
	var slots []slot
	for part := range strings.SplitSeq(text, ",") {
		start, counts, _ := strings.Cut(part, ":")
		count, first, _ := strings.Cut(counts, ":")
		var s slot
		var err [3]error
		s.start, err[0] = strconv.ParseInt(start, 10, 64)
		s.count, err[1] = strconv.Atoi(count)
		s.first, err[2] = strconv.Atoi(cmp.Or(first, "0")) // as older versions wrote it
		if err := errors.Join(err[:]...); err != nil {
			return nil, err
		}
		slots = append(slots, s)
	}
	return slots, nil
}

const selectLedger = `SELECT id, slots, parked_until, hint_remaining, hint_until, growth, longest, first_polls_at, planned_at, short_said_at
	FROM budgets`

func scanLedger(row sqldb.Row) (*ledger, error) {
	var l ledger
	var slots string
	var longest int64
	err := row.Scan(&l.id, &slots, sqldb.Time(&l.parkedUntil), &l.hintRemaining, sqldb.Time(&l.hintUntil),
		&l.plan.Growth, &longest, sqldb.Time(&l.firstPollsAt), sqldb.Time(&l.plannedAt), sqldb.Time(&l.shortSaidAt))
	l.plan.Longest = time.Duration(longest) * time.Microsecond
	if err != nil {
		return nil, err
	}
	l.slots, err = parseSlots(slots)
	return &l, err
}

// lockBudget locks and reads the budget's row, and inserts it first if it is missing.
// ErrLeaseLost if owner does not hold the lease of the budget's group.
func (tx *transaction) lockBudget(ctx context.Context, id, owner string) (*ledger, error) {
	l, err := tx.readBudget(ctx, id, owner)
	if !errors.Is(err, ErrNotFound) {
		return l, err
	}
	if err := tx.holdLease(ctx, Group{PollGroup, id}, owner); err != nil {
		return nil, err
	}
	err = tx.Later(`INSERT INTO budgets (id) VALUES ($1) ON CONFLICT (id) DO NOTHING`, id)
	if err != nil {
		return nil, err
	}
	return tx.readBudget(ctx, id, owner)
}

// readBudget locks and reads the row. ErrNotFound if there is no such budget, or no such lease.
func (tx *transaction) readBudget(ctx context.Context, id, owner string) (*ledger, error) {
	return sqldb.One(ctx, tx, scanLedger, selectLedger+` WHERE id = $1 AND EXISTS (SELECT 1 FROM work_groups
		WHERE kind = 'poll' AND work_groups.id = $1 AND owner = $2 AND leased_until > $3)`+tx.ForUpdate,
		id, owner, tx.db.steady().UnixMicro())
}

// ParkBudget lets no request be charged until then. It never shortens an earlier one.
func (s *Store) ParkBudget(ctx context.Context, budgetID string, until time.Time) (err error) {
	defer wrapf(&err, "park budget %s", budgetID)
	return s.write(ctx, func(tx *transaction) error {
		return tx.Later(`INSERT INTO budgets (id, parked_until) VALUES ($1, $2)
			ON CONFLICT (id) DO UPDATE SET parked_until = excluded.parked_until
			WHERE budgets.parked_until < excluded.parked_until`, budgetID, until.UnixMicro())
	})
}

// HintBudget notes the upstream's own count: until reset, at most remaining more requests
// are charged. It replaces an earlier hint, whichever is lower.
func (s *Store) HintBudget(ctx context.Context, budgetID string, remaining int, reset time.Time) (err error) {
	defer wrapf(&err, "hint budget %s", budgetID)
	return s.write(ctx, func(tx *transaction) error {
		return tx.Later(`INSERT INTO budgets (id, hint_remaining, hint_until) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET hint_remaining = excluded.hint_remaining, hint_until = excluded.hint_until`,
			budgetID, max(remaining, 0), reset.UnixMicro())
	})
}

// BudgetState is how a budget stands now.
type BudgetState struct {
	Remaining int       // requests that may be made now
	ResetsAt  time.Time // steady, when all are there again if nothing more is asked; zero if they are
	Lag       float64   // the share of its age that an operation waits between polls
}

// BudgetState tells how a budget stands.
func (s *Store) BudgetState(ctx context.Context, budgetID string, budget Budget, own Intervals) (_ BudgetState, err error) {
	defer wrapf(&err, "budget %s", budgetID)
	l, err := sqldb.One(ctx, s.reader(), scanLedger, selectLedger+` WHERE id = $1`, budgetID)
	if errors.Is(err, ErrNotFound) {
		l, err = &ledger{}, nil
	}
	if err != nil {
		return BudgetState{}, err
	}
	l.at(s.db.steady(), budget)
	if l.plan.Scarce() { // a plan is of what was polled last, and nothing may be left of that
		some, err := sqldb.All(ctx, s.reader(), prefixOperation.read, `SELECT id FROM open_operations WHERE budget_id = $1 LIMIT 1`, budgetID)
		if err != nil {
			return BudgetState{}, err
		}
		if len(some) == 0 {
			l.plan = PollPlan{}
		}
	}
	state := BudgetState{Lag: l.plan.Lag(own)}
	state.Remaining, _ = l.allowance()
	for _, slot := range l.slots {
		state.ResetsAt = time.UnixMicro(slot.start + slotsCounted*budget.slotLength()).UTC()
	}
	for _, until := range []time.Time{l.parkedUntil, l.hintUntil} {
		if until.After(l.now) {
			state.ResetsAt = latest(state.ResetsAt, until)
		}
	}
	return state, nil
}
