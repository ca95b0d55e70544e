package storage

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
)

const (
	// sharedMost is how many registrations share a commit at most.
	sharedMost = 128
	// sharedWatches is up to how many watches a registration shares its commit:
	// with more the commit is no longer what it costs, and the others would wait.
	sharedWatches = 10
)

// registration is watches that are made together or not at all.
type registration struct {
	requested []NewWatch
	keep      func(tx *Store, made []Watch) error
	taken     atomic.Bool // by the group that does it, or by the caller that gave up
	made      []Watch
	err       error
	done      chan struct{} // closed when made and err are final
}

// Register is CreateWatches, with something kept in the same transaction: keep
// may be nil, and may run again. Registrations that come while others commit
// share the next commit, for the rows that they all bring forward (a budget's
// group) would else be locked by one commit after the other. Each is answered
// after the commit, and fails alone.
func (s *Store) Register(
	ctx context.Context, requested []NewWatch, keep func(tx *Store, made []Watch) error,
) ([]Watch, error) {
	r := &registration{requested: requested, keep: keep, done: make(chan struct{})}
	if s.tx != nil || len(requested) > sharedWatches {
		err := s.registerAlone(ctx, r)
		return r.made, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	s.db.registering.add(r)
	select {
	case <-r.done:
		return r.made, r.err
	case <-ctx.Done():
	}
	if r.taken.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("create watches: %w", ctx.Err())
	}
	return nil, fmt.Errorf("create watches: %w", errors.Join(ErrOutcomeUnknown, ctx.Err()))
}

// registerAlone does one registration in a transaction of its own.
func (s *Store) registerAlone(ctx context.Context, r *registration) error {
	err := s.write(ctx, func(tx *transaction) error {
		if err := tx.register(ctx, []*registration{r}); err != nil {
			return err
		}
		return r.err
	})
	if err != nil {
		r.made = nil
		return fmt.Errorf("create watches: %w", err)
	}
	return nil
}

// registerTogether is what a group of registrations is done by. Nobody's
// context ends it: those who wait are others', and it is bounded by itself.
func (db *database) registerTogether(group []*registration) {
	s, ctx := &Store{db: db}, context.Background()
	wanted := slices.DeleteFunc(group, func(r *registration) bool { return !r.taken.CompareAndSwap(false, true) })
	if len(wanted) == 0 {
		return
	}
	err := protected(func() error {
		return s.write(ctx, func(tx *transaction) error { return tx.register(ctx, wanted) })
	})
	for _, r := range wanted {
		switch {
		case err != nil && len(wanted) > 1 && !Unavailable(err): // one of them is at fault: the others are not to fail with it
			r.err = protected(func() error { return s.registerAlone(ctx, r) })
		case err != nil:
			r.err = fmt.Errorf("create watches: %w", err)
		case r.err != nil:
			r.err = fmt.Errorf("create watches: %w", r.err)
		}
		if r.err != nil {
			r.made = nil
		}
		close(r.done)
	}
}

// protected makes an error of a panic, which outside of a request would end the process.
func protected(do func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %v\n%s", value, debug.Stack())
		}
	}()
	return do()
}

// register makes the watches of all registrations whose credentials and
// destinations are there, and keeps what goes with them. For each of the others
// it notes its error, which does not fail the transaction.
func (tx *transaction) register(ctx context.Context, all []*registration) error {
	refers, err := tx.references(ctx, all)
	if err != nil {
		return err
	}
	var good []*registration
	var requested []NewWatch
	for _, r := range all {
		r.made, r.err = nil, refers.check(r.requested)
		if r.err == nil {
			good = append(good, r)
			requested = append(requested, r.requested...)
		}
	}
	made, err := tx.createWatches(ctx, requested, refers)
	if err != nil {
		return err
	}
	for _, r := range good {
		r.made, made = made[:len(r.requested):len(r.requested)], made[len(r.requested):]
		if r.keep == nil {
			continue
		}
		if err := r.keep(&Store{db: tx.db, tx: tx}, r.made); err != nil {
			return err
		}
	}
	return nil
}
