package storage

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"oprelay/storage/sqldb"
)

// lockPatience is how long a transaction of a hasty [Store] waits for a lock: longer than
// most transactions hold theirs.
const lockPatience = 100 * time.Millisecond

// transaction is one transaction, with the groups that it makes due.
//
// So that no two transactions wait for each other, each locks rows in this order, and rows of
// one table in the order of their ids: credentials, destinations, open_operations (see
// operationOrder), tenants, slack_messages, idempotency_keys, budgets, work_groups. Open watches
// are locked by the holder of their operation, deliveries by that of their destination. A
// claim of polls locks its budget before operations, but waits for none of these. Retention
// locks its row, open operations, deliveries (a redelivery keeps those from being deleted),
// slack_messages, feed_starts, but waits for none of the first three.
// TestLockOrder asks PostgreSQL after each statement which rows are locked.
type transaction struct {
	*sqldb.Tx

	db       *database
	failed   error // a change in it failed, so it must not be committed
	due      map[Group]time.Time
	unpaused map[Group]time.Time // groups whose pause ends, and when
	answers  []keptAnswer        // see KeepAnswer

	// For the counters, after the commit:
	registered int // watches
	ended      []EndedWatch
	recorded   map[GroupKind]int // results
	deleted    map[string]int    // rows that were old, by their kind

	changes Changes
}

// markDue notes that rows of the group are due at a time. wake writes that into the row of the
// group just before the commit.
func (tx *transaction) markDue(group Group, at time.Time) {
	if known, ok := tx.due[group]; !ok || at.Before(known) {
		tx.due[group] = at
	}
}

// unpause makes the group due now, whatever pause a receiver or an upstream has asked for.
func (tx *transaction) unpause(group Group) {
	now := tx.db.steady()
	tx.markDue(group, now)
	tx.unpaused[group] = now
}

// reader is what to read from: the transaction, if there is one.
func (s *Store) reader() sqldb.Querier {
	if s.tx != nil {
		return s.tx
	}
	return s.db
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
	var lockWait time.Duration
	if s.hasty {
		lockWait = lockPatience
	}
	var tx *transaction
	err := s.db.Transact(ctx, lockWait, func(inner *sqldb.Tx) error {
		tx = &transaction{Tx: inner, db: s.db, due: map[Group]time.Time{}, unpaused: map[Group]time.Time{}, recorded: map[GroupKind]int{}}
		return tx.run(ctx, do)
	})
	if err != nil {
		return err
	}
	s.db.counters.add(tx)
	s.db.tellEnded(tx.ended)
	s.db.tellRecorded(tx.recorded)
	s.db.tellChanges(tx.changes)
	s.db.announce(tx.dueNow())
	return nil
}

// writeOnce runs one statement that makes nothing due, and says how many rows it changed.
func (s *Store) writeOnce(ctx context.Context, query string, args ...any) (n int, err error) {
	if s.tx == nil {
		return s.db.Once(ctx, query, args...)
	}
	err = s.write(ctx, func(tx *transaction) error {
		n, err = sqldb.ExecCount(ctx, tx, query, args...)
		return err
	})
	return n, err
}

// run runs do, keeps the answers of its requests, and wakes the groups that it made due.
func (tx *transaction) run(ctx context.Context, do func(tx *transaction) error) error {
	if err := do(tx); err != nil {
		return err
	}
	if tx.failed != nil {
		return tx.failed
	}
	if err := tx.keepAnswers(ctx); err != nil {
		return err
	}
	return tx.wake()
}

// wake brings the rows of the groups forward to what became due, in the order of locks. A row
// that is early enough is locked as well: so a ReleaseGroup at the same time either comes
// later and sees our rows, or has written the row that is brought forward here.
func (tx *transaction) wake() error {
	rows := make([][]any, 0, len(tx.due))
	for _, group := range slices.SortedFunc(maps.Keys(tx.due), compareGroups) {
		rows = append(rows, []any{string(group.Kind), group.ID, tx.due[group].UnixMicro()})
	}
	err := tx.Upsert(`INSERT INTO work_groups (kind, id, due_at)`,
		` ON CONFLICT (kind, id) DO UPDATE SET due_at = `+tx.Greatest+`(excluded.due_at, work_groups.not_before)
		WHERE work_groups.due_at IS NULL OR work_groups.due_at > excluded.due_at
		RETURNING kind, id, due_at`, rows, tx.noteBroughtForward)
	if err != nil {
		return err
	}
	return tx.forgetPauses()
}

// forgetPauses ends the pauses that unpause has noted. The rows are locked already.
func (tx *transaction) forgetPauses() error {
	for group, at := range tx.unpaused {
		forget := `UPDATE work_groups SET not_before = 0, due_at = ` + tx.Least + `(due_at, $1)
			WHERE kind = $2 AND id = $3 RETURNING kind, id, due_at`
		err := tx.LaterScan(tx.noteBroughtForward, forget, at.UnixMicro(), string(group.Kind), group.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

// noteBroughtForward notes when a group is due that pauses: no worker needs to be told of it
// now, however much is registered for a budget that pauses.
func (tx *transaction) noteBroughtForward(row sqldb.Row) error {
	var group Group
	var due time.Time
	err := row.Scan(&group.Kind, &group.ID, sqldb.Time(&due))
	tx.due[group] = due
	return err
}

// dueNow returns the groups that have work now.
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
	_, err := sqldb.One(ctx, tx, sqldb.Int, `SELECT 1 FROM work_groups
		WHERE kind = $1 AND id = $2 AND owner = $3 AND leased_until > $4`,
		string(group.Kind), group.ID, owner, tx.db.steady().UnixMicro())
	if errors.Is(err, ErrNotFound) {
		return ErrLeaseLost
	}
	return err
}
