package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"oprelay/storage/sqldb"
)

const (
	// commitMost is how many rows share a commit, unless one caller brings as many: all who
	// come meanwhile wait for it, some 100 ms in a burst.
	commitMost = 256
	// leastRoom is how many rows of the smallest contributions a commit has room for beside
	// the one that has waited longest.
	leastRoom = commitMost / 4
	// fewRows is up to how many rows do not share a commit with hundreds of others', nor wait
	// for it.
	fewRows = 50
	// manyWriters is how many commits of more rows are under way at a time: the next is
	// prepared while one waits for the disk.
	manyWriters = 2
	// toldBefore is how long before its caller gives up a write stops waiting for a lock, so
	// that the caller is told that nothing was written.
	toldBefore = 500 * time.Millisecond
)

// groupCommit writes for several callers in one transaction: what they bring while one is
// under way, the next one writes. So a caller who comes alone never waits, and in a crowd
// they do not wait one after the other for the rows that all of them change: a tenant's
// counter of events, a budget's group. Each is told its own result, after the commit.
type groupCommit[T any] struct {
	db *database
	// write writes all in one transaction. It may leave some out, and returns an error for
	// each then; nil if it wrote all.
	write     func(s *Store, ctx context.Context, all []T) ([]error, error)
	few, many queue[T]

	mu     sync.Mutex
	locked map[string][]*contribution[T] // by what they wait for
}

// queue is contributions that wait for the same writers.
type queue[T any] struct {
	mu      sync.Mutex
	waiting []*contribution[T]
	writers int // free ones
}

// contribution is what one caller brings.
type contribution[T any] struct {
	what  T
	rows  int
	locks string // contributions with the same may wait for the same locks

	until  time.Time   // then the caller gives up
	taken  atomic.Bool // by a transaction, or by the caller that gave up
	result chan error  // capacity 1
}

// newGroupCommit makes one with so many writers of few rows.
func newGroupCommit[T any](
	db *database, writers int, write func(s *Store, ctx context.Context, all []T) ([]error, error),
) *groupCommit[T] {
	return &groupCommit[T]{
		db: db, write: write, few: queue[T]{writers: writers}, many: queue[T]{writers: manyWriters},
		locked: map[string][]*contribution[T]{},
	}
}

// do returns when the contribution is written, or is not. The context of no caller ends a
// transaction, for it is done for all of them.
func (g *groupCommit[T]) do(ctx context.Context, c *contribution[T]) error {
	ctx, cancel := context.WithTimeout(ctx, sqldb.AnswerTime)
	defer cancel()
	c.until, _ = ctx.Deadline()
	c.result = make(chan error, 1)
	g.add(c)
	select {
	case err := <-c.result:
		return err
	case <-ctx.Done():
	}
	if c.taken.CompareAndSwap(false, true) {
		return ctx.Err()
	}
	return errors.Join(ErrOutcomeUnknown, ctx.Err())
}

func (g *groupCommit[T]) add(c *contribution[T]) {
	if g.waitWithOthers(c) {
		return
	}
	q := &g.many
	if c.rows <= fewRows {
		q = &g.few
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, c)
	if q.writers > 0 {
		q.writers--
		go g.run(q)
	}
}

// run writes until nobody waits in the queue.
func (g *groupCommit[T]) run(q *queue[T]) {
	hasty := &Store{db: g.db, hasty: true}
	for all := q.next(); len(all) > 0; all = q.next() {
		g.writeAll(context.Background(), hasty, wanted(all))
	}
}

// next takes whose turn it is; with none, a writer is free.
func (q *queue[T]) next() []*contribution[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.writers++
		return nil
	}
	all, left := cut(q.waiting)
	q.waiting = left
	return all
}

// cut parts those whom one commit has room for from the others: who has waited longest, and
// beside it the smallest, so that whoever brings little waits for no more than a commit or
// two, however many others bring much. Both keep their order.
func cut[T any](waiting []*contribution[T]) (all, left []*contribution[T]) {
	if len(waiting) == 0 {
		return nil, nil
	}
	room := max(commitMost-waiting[0].rows, leastRoom)
	bySize := slices.Clone(waiting[1:])
	slices.SortStableFunc(bySize, func(a, b *contribution[T]) int { return cmp.Compare(a.rows, b.rows) })
	chosen := map[*contribution[T]]bool{waiting[0]: true}
	for _, c := range bySize {
		if room -= c.rows; room < 0 {
			break
		}
		chosen[c] = true
	}
	for _, c := range waiting {
		if chosen[c] {
			all = append(all, c)
		} else {
			left = append(left, c)
		}
	}
	return all, left
}

// wanted takes those of the contributions that their callers have not given up.
func wanted[T any](all []*contribution[T]) []*contribution[T] {
	return slices.DeleteFunc(all, func(c *contribution[T]) bool { return !c.taken.CompareAndSwap(false, true) })
}

// writeAll writes all in one transaction, or in several if that fails. One that is locked
// then waits by itself.
func (g *groupCommit[T]) writeAll(ctx context.Context, s *Store, all []*contribution[T]) {
	if len(all) == 0 {
		return
	}
	what := make([]T, len(all))
	for i, c := range all {
		what[i] = c.what
	}
	var own []error
	err := protected(func() (err error) {
		own, err = g.write(s, ctx, what)
		return err
	})
	if parts := apart(all, err); len(parts) > 1 {
		for _, part := range parts {
			g.writeAll(ctx, s, part)
		}
		return
	}
	for i, c := range all {
		result := err
		if err == nil && own != nil {
			result = own[i]
		}
		if s.hasty && errors.Is(result, ErrLocked) {
			g.waitForLocks(c)
			continue
		}
		c.result <- result
	}
}

// apart says how to write contributions again that could not be written together: by what
// they wait for if one is locked, else each by itself.
func apart[T any](all []*contribution[T], err error) [][]*contribution[T] {
	parts := map[string][]*contribution[T]{}
	switch {
	case err == nil || Unavailable(err):
		return nil
	case !errors.Is(err, ErrLocked):
		return slices.Collect(slices.Chunk(all, 1))
	}
	for _, c := range all {
		parts[c.locks] = append(parts[c.locks], c)
	}
	return slices.Collect(maps.Values(parts))
}

// waitWithOthers has the contribution wait for the locks that others wait for; false if
// nobody does. So a lock that is held for long costs the commits of others no more time.
func (g *groupCommit[T]) waitWithOthers(c *contribution[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	waiting, ok := g.locked[c.locks]
	if ok {
		g.locked[c.locks] = append(waiting, c)
	}
	return ok
}

// waitForLocks has a contribution whose rows are locked tried again and again, until its
// caller is about to give up.
func (g *groupCommit[T]) waitForLocks(c *contribution[T]) {
	if time.Until(c.until) < toldBefore {
		c.result <- fmt.Errorf("%w: %w", context.DeadlineExceeded, ErrLocked)
		return
	}
	c.taken.Store(false)
	g.mu.Lock()
	defer g.mu.Unlock()
	waiting, ok := g.locked[c.locks]
	g.locked[c.locks] = append(waiting, c)
	if !ok {
		go g.tryLocked(c.locks)
	}
}

// tryLocked writes those that wait for the same locks, all who are there together, until
// nobody waits. It has a connection no longer than for a try.
func (g *groupCommit[T]) tryLocked(locks string) {
	hasty := &Store{db: g.db, hasty: true}
	for {
		begun := time.Now()
		all := g.nextLocked(locks)
		if len(all) == 0 {
			return
		}
		g.db.waiters <- struct{}{}
		g.writeAll(context.Background(), hasty, wanted(all))
		<-g.db.waiters
		time.Sleep(lockPatience - time.Since(begun)) //nolint:forbidigo // nothing tells when a lock is free
	}
}

// nextLocked takes whose turn it is; with none, nobody tries any more.
func (g *groupCommit[T]) nextLocked(locks string) []*contribution[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	all, left := cut(g.locked[locks])
	if g.locked[locks] = left; len(all) == 0 {
		delete(g.locked, locks)
	}
	return all
}

// AtomicallyInTurn is Atomically for one of many callers. If a row stays locked, it gives its
// connection back and tries again as one of the few callers that may wait for locks.
func (s *Store) AtomicallyInTurn(ctx context.Context, do func(tx *Store) error) error {
	err := (&Store{db: s.db, tx: s.tx, hasty: true}).Atomically(ctx, do)
	if s.tx != nil || !errors.Is(err, ErrLocked) {
		return err
	}
	select {
	case s.db.waiters <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.db.waiters }()
	return s.Atomically(ctx, do)
}

// protected turns a panic, which outside of a request would end the process, into an error.
func protected(do func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %v\n%s", value, debug.Stack())
		}
	}()
	return do()
}
