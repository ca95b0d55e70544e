package storage

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// maxTries bounds how often a transaction is tried that conflicts with others.
const maxTries = 5

// answerTime is how long a transaction, or a single read, may take until the
// database counts as unavailable. A connection can die without a word (a failover,
// a firewall that drops its state), and nobody may wait for it forever.
const answerTime = 10 * time.Second

// idleInTransaction is how long PostgreSQL lets a transaction of ours stand still
// between two statements: ours never wait for anything there.
const idleInTransaction = 5 * time.Second

// executor is a connection, a pool or a transaction.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// querier is a pool or a transaction.
type querier interface {
	executor

	// query has each called with the rows of a statement.
	query(ctx context.Context, each func(scanner) error, query string, args ...any) error
}

// transaction is one transaction, and what it makes due.
//
// To keep transactions from deadlocking, each locks rows in this order, and
// rows of one table in the order of their ids: steady_clock, credentials,
// destinations, operations, watches, tenants, events, deliveries, slack_messages,
// budgets, work_groups.
type transaction struct {
	wire wire

	ctx    context.Context //nolint:containedctx // bounds every statement of the transaction, see answerTime
	db     *database
	failed error // what went wrong inside; it must not be committed
	due    map[Group]time.Time

	// For the tally, after the commit:
	registered int      // watches
	ended      []string // what watches have become
}

// ExecContext runs a statement within the transaction's own time.
func (tx *transaction) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	n, err := tx.wire.query(tx.ctx, nil, query, tx.db.dialect.planned(args))
	return driver.RowsAffected(n), err
}

// query runs a query within the transaction's own time.
func (tx *transaction) query(_ context.Context, each func(scanner) error, query string, args ...any) error {
	_, err := tx.wire.query(tx.ctx, each, query, tx.db.dialect.planned(args))
	return err
}

// later runs a statement by the time of the commit, and before whatever is queried.
func (tx *transaction) later(_ context.Context, query string, args ...any) error {
	return tx.wire.later(tx.ctx, statement{query: query, args: tx.db.dialect.planned(args)})
}

// markDue notes that rows of the group are due at a time; the group's own row
// is brought up to date just before the commit.
func (tx *transaction) markDue(group Group, at time.Time) {
	if known, ok := tx.due[group]; !ok || at.Before(known) {
		tx.due[group] = at
	}
}

// reader is where to read: in the transaction, if there is one.
func (s *Store) reader() querier {
	if s.tx != nil {
		return s.tx
	}
	return s.db.read
}

// write runs do in a transaction, or joins the one there is.
func (s *Store) write(ctx context.Context, do func(tx *transaction) error) error {
	if s.tx != nil {
		err := do(s.tx)
		if err != nil && s.tx.failed == nil {
			s.tx.failed = err
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for try := 1; ; try++ {
		due, err := s.db.commit(ctx, do)
		if err == nil {
			s.db.announce(due)
			return nil
		}
		if try == maxTries || !s.db.dialect.retryable(err) || !pause(ctx, try) {
			return err
		}
	}
}

// writeOnce runs one statement that makes nothing due, and says how many rows it
// changed. By itself it is a transaction, for a third of the round trips. An error
// after it was sent says as little of what became of it as one of a commit.
func (s *Store) writeOnce(ctx context.Context, query string, args ...any) (n int, err error) {
	if s.tx != nil {
		err := s.write(ctx, func(tx *transaction) error {
			n, err = execCount(ctx, tx, query, args...)
			return err
		})
		return n, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	end, err := s.db.write.turn(ctx)
	if err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	defer end()
	conn, err := s.db.write.Conn(ctx)
	if err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	for try := 1; ; try++ {
		n, err = execCount(ctx, conn, query, args...)
		switch {
		case err == nil:
			return n, nil
		case s.db.dialect.unanswered(err):
			return 0, errors.Join(ErrOutcomeUnknown, err)
		case try == maxTries || !s.db.dialect.retryable(err) || !pause(ctx, try):
			return 0, err
		}
	}
}

// pause waits before the next try, longer each time; false if ctx ended.
func pause(ctx context.Context, try int) bool {
	step := 10 * time.Millisecond << try
	timer := time.NewTimer(step/2 + rand.N(step))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// commit runs do in one transaction and returns the groups it made due now.
func (db *database) commit(ctx context.Context, do func(tx *transaction) error) ([]Group, error) {
	end, err := db.write.turn(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer end()
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	tx := &transaction{ctx: ctx, db: db, due: map[Group]time.Time{}}
	if err := db.transact(ctx, conn, func(w wire) error {
		tx.wire = w
		return tx.run(do)
	}); err != nil {
		return nil, err
	}
	db.tally.add(tx)
	return tx.dueNow(), nil
}

// run does it, and commits unless anything went wrong.
func (tx *transaction) run(do func(tx *transaction) error) error {
	if err := do(tx); err != nil {
		return err
	}
	if tx.failed != nil {
		return tx.failed
	}
	if err := tx.wake(); err != nil {
		return err
	}
	if err := tx.ctx.Err(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := tx.wire.commit(tx.ctx); err != nil {
		if tx.db.dialect.unanswered(err) {
			err = errors.Join(ErrOutcomeUnknown, err)
		}
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// wake brings the rows of the groups forward to what became due. The order of
// the values is the order of the locks; a row that is early enough is locked
// all the same, so that a ReleaseGroup at the same time sees our rows.
func (tx *transaction) wake() error {
	rows := make([][]any, 0, len(tx.due))
	for _, group := range slices.SortedFunc(maps.Keys(tx.due), compareGroups) {
		rows = append(rows, []any{string(group.Kind), group.ID, tx.due[group].UnixMicro()})
	}
	for chunk := range slices.Chunk(rows, tx.db.dialect.rowsAtOnce(3)) {
		var args arguments
		query := `INSERT INTO work_groups (kind, id, due_at)` + tx.db.dialect.insertion(&args, chunk) + `
			ON CONFLICT (kind, id) DO UPDATE SET due_at = ` + tx.db.dialect.greatest + `(excluded.due_at, work_groups.not_before)
			WHERE work_groups.due_at IS NULL OR work_groups.due_at > excluded.due_at
			RETURNING kind, id, due_at`
		if err := tx.wire.later(tx.ctx, statement{query: query, args: args, each: tx.noteBroughtForward}); err != nil {
			return err
		}
	}
	return nil
}

// noteBroughtForward notes when a group is due that is not to be worked on yet: nobody
// needs to be told of it now, however much is registered for a budget that rests.
func (tx *transaction) noteBroughtForward(row scanner) error {
	var group Group
	var due time.Time
	err := row.Scan(&group.Kind, &group.ID, timeColumn{&due})
	tx.due[group] = due
	return err
}

// dueNow is the groups that have work now.
func (tx *transaction) dueNow() []Group {
	now := tx.db.steady()
	groups := make([]Group, 0, len(tx.due))
	for _, group := range slices.SortedFunc(maps.Keys(tx.due), compareGroups) {
		if !tx.due[group].After(now) {
			groups = append(groups, group)
		}
	}
	return groups
}

func compareGroups(a, b Group) int {
	if order := strings.Compare(string(a.Kind), string(b.Kind)); order != 0 {
		return order
	}
	return strings.Compare(a.ID, b.ID)
}

// announce tells Config.OnDue.
func (db *database) announce(due []Group) {
	if onDue := db.onDue.Load(); onDue != nil && *onDue != nil && len(due) > 0 {
		(*onDue)(due)
	}
}

// holdLease fails with ErrLeaseLost unless owner holds the group's lease now.
func (tx *transaction) holdLease(ctx context.Context, group Group, owner string) error {
	_, err := queryOne(ctx, tx, scanInt, `SELECT 1 FROM work_groups
		WHERE kind = $1 AND id = $2 AND owner = $3 AND leased_until > $4`,
		string(group.Kind), group.ID, owner, tx.db.steady().UnixMicro())
	if errors.Is(err, ErrNotFound) {
		return ErrLeaseLost
	}
	return err
}
