package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Budget allows N requests in any period of length Per.
type Budget struct {
	N   int
	Per time.Duration
}

// A window is counted in ten slots. A request may be sent up to one slot after
// its charge, so the requests of any window were charged within eleven slots'
// time, which touches at most twelve slots: no twelve in a row may exceed the budget.
const (
	slotsPerWindow = 10
	slotsCounted   = 12
)

// ledger is what a budget was charged of late, and what else stands against it.
type ledger struct {
	slots         []slot // oldest first
	parkedUntil   time.Time
	hintRemaining int // what the upstream says is left, true until hintUntil
	hintUntil     time.Time
}

// slot counts the requests charged from start on, for a tenth of the window.
type slot struct {
	start int64 // microseconds since the epoch
	count int
}

// Slot is the grain in which requests are counted: a tenth of the window. A
// request must be sent within one slot of its charge, or be charged anew.
func (b Budget) Slot() time.Duration { return b.Per / slotsPerWindow }

// slotLength is in microseconds.
func (b Budget) slotLength() int64 { return max(b.Per.Microseconds()/slotsPerWindow, 1) }

// settle drops what no longer counts, and returns the start of the current
// slot. When the clock was set back, slots lie in the future. By up to one
// window (or between processes whose clocks differ) the latest slot stays the
// current one; by more, all are moved back with the clock. Either way no charge
// is forgotten earlier than it would have been.
func (l *ledger) settle(now time.Time, budget Budget) int64 {
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
	l.slots = kept
	return current
}

// allowance is how many requests may be charged now and, when none, from when
// on the next may.
func (l *ledger) allowance(now time.Time, budget Budget) (n int, next time.Time) {
	current, length := l.settle(now, budget), budget.slotLength()
	n = max(budget.N-l.sumSince(current-(slotsCounted-1)*length), 0)
	for i := int64(1); n == 0 && i <= slotsCounted; i++ {
		if l.sumSince(current+(i-slotsCounted+1)*length) < budget.N {
			next = time.UnixMicro(current + i*length).UTC()
			break
		}
	}
	if l.hintUntil.After(now) && l.hintRemaining < n {
		n = l.hintRemaining
	}
	if n == 0 && l.hintUntil.After(now) && l.hintRemaining == 0 && l.hintUntil.After(next) {
		next = l.hintUntil
	}
	if l.parkedUntil.After(now) {
		n = 0
		if l.parkedUntil.After(next) {
			next = l.parkedUntil
		}
	}
	return n, next
}

func (l *ledger) sumSince(start int64) (sum int) {
	for _, s := range l.slots {
		if s.start >= start {
			sum += s.count
		}
	}
	return sum
}

// charge counts n requests now.
func (l *ledger) charge(now time.Time, budget Budget, n int) {
	if n == 0 {
		return
	}
	current := l.settle(now, budget)
	l.hintRemaining = max(l.hintRemaining-n, 0)
	if last := len(l.slots) - 1; last >= 0 && l.slots[last].start == current {
		l.slots[last].count += n
		return
	}
	l.slots = append(l.slots, slot{current, n})
}

// text is how the slots are kept: START:COUNT,...
func (l *ledger) text() string {
	parts := make([]string, len(l.slots))
	for i, s := range l.slots {
		parts[i] = fmt.Sprintf("%d:%d", s.start, s.count)
	}
	return strings.Join(parts, ",")
}

func parseSlots(text string) ([]slot, error) {
	if text == "" {
		return nil, nil
	}
	var slots []slot
	for part := range strings.SplitSeq(text, ",") {
		start, count, _ := strings.Cut(part, ":")
		s, err := strconv.ParseInt(start, 10, 64)
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(count)
		if err != nil {
			return nil, err
		}
		slots = append(slots, slot{s, n})
	}
	return slots, nil
}

func scanLedger(row scanner) (*ledger, error) {
	var l ledger
	var slots string
	err := row.Scan(&slots, timeColumn{&l.parkedUntil}, &l.hintRemaining, timeColumn{&l.hintUntil})
	if err != nil {
		return nil, err
	}
	l.slots, err = parseSlots(slots)
	return &l, err
}

// lockBudget locks the budget's row, which it makes if need be, and reads it.
// ErrLeaseLost if owner does not hold the lease of the budget's group.
func (tx *transaction) lockBudget(ctx context.Context, id, owner string) (*ledger, error) {
	l, err := tx.readBudget(ctx, id, owner)
	if !errors.Is(err, ErrNotFound) {
		return l, err
	}
	if err := tx.holdLease(ctx, Group{PollGroup, id}, owner); err != nil {
		return nil, err
	}
	err = tx.later(ctx, `INSERT INTO budgets (id) VALUES ($1) ON CONFLICT (id) DO NOTHING`, id)
	if err != nil {
		return nil, err
	}
	return tx.readBudget(ctx, id, owner)
}

// readBudget locks and reads; ErrNotFound if there is no such budget, or no such lease.
func (tx *transaction) readBudget(ctx context.Context, id, owner string) (*ledger, error) {
	return queryOne(ctx, tx, scanLedger, `SELECT slots, parked_until, hint_remaining, hint_until
		FROM budgets WHERE id = $1 AND EXISTS (SELECT 1 FROM work_groups
		WHERE kind = 'poll' AND work_groups.id = $1 AND owner = $2 AND leased_until > $3)`+tx.db.dialect.forUpdate,
		id, owner, tx.db.steady().UnixMicro())
}

// ParkBudget lets no request be charged until then. It only ever parks longer.
func (s *Store) ParkBudget(ctx context.Context, budgetID string, until time.Time) error {
	err := s.write(ctx, func(tx *transaction) error {
		err := tx.later(ctx, `INSERT INTO budgets (id, parked_until) VALUES ($1, $2)
			ON CONFLICT (id) DO UPDATE SET parked_until = excluded.parked_until
			WHERE budgets.parked_until < excluded.parked_until`, budgetID, until.UnixMicro())
		return err
	})
	if err != nil {
		return fmt.Errorf("park budget %s: %w", budgetID, err)
	}
	return nil
}

// HintBudget notes the upstream's own count: until reset at most remaining more
// requests are charged. Of two hints that both hold, the lower one does.
func (s *Store) HintBudget(ctx context.Context, budgetID string, remaining int, reset time.Time) error {
	err := s.write(ctx, func(tx *transaction) error {
		err := tx.later(ctx, `INSERT INTO budgets (id, hint_remaining, hint_until) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET hint_remaining = excluded.hint_remaining, hint_until = excluded.hint_until
			WHERE budgets.hint_until <= $4 OR budgets.hint_remaining >= excluded.hint_remaining`,
			budgetID, max(remaining, 0), reset.UnixMicro(), tx.db.steady().UnixMicro())
		return err
	})
	if err != nil {
		return fmt.Errorf("hint budget %s: %w", budgetID, err)
	}
	return nil
}
