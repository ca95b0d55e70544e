package sqldb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// AnswerTime is how long a transaction, or a single read, may take until the
	// database counts as unavailable. A connection can die without a word (a failover,
	// a firewall that drops its state), and nobody may wait for it forever.
	AnswerTime = 10 * time.Second
	// idleInTransaction is how long PostgreSQL lets a transaction of ours stand still
	// between two statements: ours never wait for anything there.
	idleInTransaction = 5 * time.Second
	// maxTries bounds how often a transaction is tried that conflicts with others.
	maxTries = 5
)

// Tx is one transaction, which must end within AnswerTime. A statement whose result is not needed
// at once is queued, and sent in one round trip with the next whose result is. So a transaction
// of ten statements takes about four round trips, and holds its locks for less time.
type Tx struct {
	*Dialect

	ctx    context.Context //nolint:containedctx // bounds every statement of the transaction
	conn   conn
	queued []statement

	begun, committed bool
}

// Query implements Querier.
func (tx *Tx) Query(_ context.Context, each func(Row) error, query string, args ...any) (n int, err error) {
	err = tx.add(statement{query: query, args: args, byValues: tx.byValues(args), each: each, n: &n}, true)
	return n, err
}

// Later runs a statement by the time of the commit, and before whatever is queried.
func (tx *Tx) Later(query string, args ...any) error { return tx.LaterScan(nil, query, args...) }

// LaterScan is Later with a function for the rows that the statement returns.
func (tx *Tx) LaterScan(each func(Row) error, query string, args ...any) error {
	return tx.add(statement{query: query, args: slices.Clone(args), byValues: tx.byValues(args), each: each}, false)
}

// add sends the statement with all that waits, or has it wait if it may.
func (tx *Tx) add(s statement, now bool) error {
	if !tx.begun {
		tx.begun, tx.queued = true, []statement{{query: tx.conn.begin()}}
	}
	tx.queued = append(tx.queued, s)
	if !now && !s.byValues {
		return nil
	}
	queued := tx.queued
	tx.queued = nil
	return tx.conn.send(tx.ctx, queued)
}

// Transact runs do in a transaction and commits it unless do fails. On a conflict with
// another transaction do runs again. A lock that others hold for longer than lockWait
// (0 for any time) makes it ErrLocked.
func (db *DB) Transact(caller context.Context, lockWait time.Duration, do func(*Tx) error) (err error) {
	defer func() { db.noteFailure(caller, err) }()
	ctx, cancel := context.WithTimeout(caller, AnswerTime)
	defer cancel()
	for try := 1; ; try++ {
		err := db.transactOnce(ctx, lockWait, do)
		switch {
		case err == nil:
			return nil
		case db.locked(err):
			return errors.Join(ErrLocked, err)
		case try == maxTries || !db.retryable(err) || !pause(ctx, try):
			return err
		}
	}
}

func (db *DB) transactOnce(ctx context.Context, lockWait time.Duration, do func(*Tx) error) error {
	return db.hold(ctx, db.write, func(on conn) error {
		tx := &Tx{Dialect: db.Dialect, ctx: ctx, conn: on}
		defer tx.end()
		if lockWait > 0 && db.lockTimeout != "" {
			if err := tx.Later(fmt.Sprintf(db.lockTimeout, lockWait.Milliseconds())); err != nil {
				return err
			}
		}
		if err := do(tx); err != nil {
			return err
		}
		err := ctx.Err()
		if err == nil {
			err = tx.commit()
		}
		if err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		return nil
	})
}

func (tx *Tx) commit() error {
	if !tx.begun {
		return nil
	}
	committed := -1
	err := tx.add(statement{query: "COMMIT", tag: "COMMIT", n: &committed}, true)
	tx.committed = committed >= 0
	switch {
	case tx.committed: // what went wrong after that, a server that stops, changes nothing
		return nil
	case tx.unanswered(err):
		return errors.Join(ErrOutcomeUnknown, err)
	}
	return err
}

// end rolls back what was not committed.
func (tx *Tx) end() {
	if !tx.begun || tx.committed {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.ctx), connectTimeout)
	defer cancel()
	tx.conn.rollBack(ctx)
}

// Once runs one statement as a transaction by itself, for a third of the round trips, and
// says how many rows it changed. An error after it was sent says as little of what became
// of it as one of a commit.
func (db *DB) Once(caller context.Context, query string, args ...any) (n int, err error) {
	defer func() { db.noteFailure(caller, err) }()
	ctx, cancel := context.WithTimeout(caller, AnswerTime)
	defer cancel()
	err = db.hold(ctx, db.write, func(on conn) error {
		for try := 1; ; try++ {
			n, err = run(ctx, on, statement{query: query, args: args, byValues: db.byValues(args)})
			switch {
			case err == nil:
				return nil
			case db.unanswered(err):
				return errors.Join(ErrOutcomeUnknown, err)
			case try == maxTries || !db.retryable(err) || !pause(ctx, try):
				return err
			}
		}
	})
	return n, err
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
