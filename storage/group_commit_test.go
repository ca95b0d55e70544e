package storage

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// wait is how long a test's commit takes.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// bring has a caller bring so many rows, of which the first tells it from the others.
func bring(ctx context.Context, g *groupCommit[[]int], first, rows int) error {
	what := make([]int, rows)
	what[0] = first
	return g.do(ctx, &contribution[[]int]{what: what, rows: rows, locks: strconv.Itoa(first)})
}

// A caller who comes alone has a commit of its own, and those who come meanwhile share the
// next. What is wrong with the rows of one is told to that one, and costs no other.
func TestWrittenTogether(t *testing.T) {
	t.Parallel()
	poison, away := errors.New("value out of range"), fmt.Errorf("write: %w", driver.ErrBadConn)
	refuse := func(row int, err error) func(all []int) ([]error, error) {
		return func(all []int) ([]error, error) {
			if slices.Contains(all, row) {
				return nil, err
			}
			return nil, nil
		}
	}
	for _, test := range []struct {
		name    string
		write   func(all []int) ([]error, error)
		commits [][]int
		failed  map[int]error
	}{
		{"all is well", refuse(-1, nil), [][]int{{0}, {1, 2, 3}}, nil},
		{"one is at fault", refuse(2, poison), [][]int{{0}, {1, 2, 3}, {1}, {2}, {3}}, map[int]error{2: poison}},
		{"the database is away", func([]int) ([]error, error) { return nil, away }, [][]int{{0}, {1, 2, 3}}, map[int]error{0: away, 1: away, 2: away, 3: away}},
		{"one is left out", func(all []int) ([]error, error) {
			own := make([]error, len(all))
			if i := slices.Index(all, 2); i >= 0 {
				own[i] = poison
			}
			return own, nil
		}, [][]int{{0}, {1, 2, 3}}, map[int]error{2: poison}},
		// By itself it waits for the lock, in vain here.
		{"one is locked", refuse(3, ErrLocked), [][]int{{0}, {1, 2, 3}, {1}, {2}, {3}}, map[int]error{3: ErrLocked}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var commits [][]int
				g := newGroupCommit(&database{waiters: make(chan struct{}, 1)}, 1, func(_ *Store, ctx context.Context, all [][]int) ([]error, error) {
					rows := slices.Concat(all...)
					mu.Lock()
					commits = append(commits, slices.Clone(rows))
					mu.Unlock()
					wait(ctx, lockPatience)
					return test.write(rows)
				})
				var callers sync.WaitGroup
				for row := range 4 { // the first is being written when the others come
					callers.Go(func() {
						if err := bring(t.Context(), g, row, 1); !errors.Is(err, test.failed[row]) {
							t.Errorf("row %d: %v, want %v", row, err, test.failed[row])
						}
					})
					synctest.Wait()
				}
				callers.Wait()
				time.Sleep(2 * lockPatience) //nolint:forbidigo // fake, until it is seen that nobody waits for a lock
				mu.Lock()
				defer mu.Unlock()
				if len(commits) > 2 { // the single ones, in any order
					slices.SortFunc(commits[2:], slices.Compare)
					commits = slices.CompactFunc(commits, slices.Equal)
				}
				if !slices.EqualFunc(commits, test.commits, slices.Equal) {
					t.Errorf("written in %v, want %v", commits, test.commits)
				}
			})
		})
	}
}

// While a lock is held for long, those that come for it wait together, and cost the commits
// of others nothing. They are written when it is free.
func TestLockedWaitTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		free := time.Now().Add(5 * time.Second)
		g := newGroupCommit(&database{waiters: make(chan struct{}, 2)}, 1, func(_ *Store, ctx context.Context, all [][]int) ([]error, error) {
			if slices.ContainsFunc(all, func(rows []int) bool { return rows[0] == 1 }) && time.Now().Before(free) {
				tries.Add(1)
				wait(ctx, lockPatience)
				return nil, ErrLocked
			}
			return nil, nil
		})
		var callers sync.WaitGroup
		locked := func() {
			if err := bring(t.Context(), g, 1, 1); err != nil {
				t.Errorf("it waited until the lock was free, and got %v", err)
			}
			if early := time.Until(free); early > 0 {
				t.Errorf("written %v before the lock was free", early)
			}
		}
		callers.Go(locked)
		time.Sleep(time.Second) //nolint:forbidigo // a fake second
		for range 100 {
			callers.Go(locked)
		}
		synctest.Wait()
		for range 100 {
			if err := bring(t.Context(), g, 2, 1); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // fake, too
		}
		callers.Wait()
		time.Sleep(2 * lockPatience) //nolint:forbidigo // fake, until it is seen that nobody waits
		if most := int64(5*time.Second/lockPatience) + 1; tries.Load() > most {
			t.Errorf("%d tries, want at most %d", tries.Load(), most)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.locked) > 0 {
			t.Errorf("%d locks are still waited for", len(g.locked))
		}
	})
}

// A commit has its bounds, whoever brings how much, and first come is first served.
func TestCommitsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var order, sizes []int
		g := newGroupCommit(&database{}, 1, func(_ *Store, ctx context.Context, all [][]int) ([]error, error) {
			wait(ctx, time.Second)
			for _, one := range all {
				order = append(order, one[0])
			}
			sizes = append(sizes, len(slices.Concat(all...)))
			return nil, nil
		})
		g.many.writers = 1
		var callers sync.WaitGroup
		for i := range 7 {
			callers.Go(func() {
				if err := bring(t.Context(), g, i, commitMost/2); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		callers.Wait()
		if !slices.Equal(sizes, []int{commitMost / 2, commitMost, commitMost, commitMost}) || !slices.IsSorted(order) {
			t.Errorf("written in commits of %v, in the order %v", sizes, order)
		}
	})
}

// Who brings little does not wait for those who bring hundreds.
func TestLittleIsWrittenBesideMuch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroupCommit(&database{}, 1, func(_ *Store, ctx context.Context, all [][]int) ([]error, error) {
			wait(ctx, time.Duration(len(slices.Concat(all...)))*time.Millisecond)
			return nil, nil
		})
		var callers sync.WaitGroup
		for i := range 3 * manyWriters {
			callers.Go(func() { _ = bring(t.Context(), g, i, commitMost) })
		}
		synctest.Wait()
		begun := time.Now()
		if err := bring(t.Context(), g, 0, 1); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > time.Millisecond {
			t.Errorf("it took %s", took)
		}
		callers.Wait()
	})
}

// Among those who bring much, whoever brings less than the others is in one of the next commits,
// and the one that has waited longest is in the next, whatever comes after it.
func TestLessIsWrittenFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var order []int
		g := newGroupCommit(&database{}, 1, func(_ *Store, ctx context.Context, all [][]int) ([]error, error) {
			wait(ctx, time.Second)
			for _, one := range all {
				order = append(order, one[0])
			}
			return nil, nil
		})
		g.many.writers = 1
		var callers sync.WaitGroup
		for i, rows := range []int{commitMost, commitMost, commitMost, fewRows + 1, commitMost, fewRows + 2} {
			callers.Go(func() { _ = bring(t.Context(), g, i, rows) })
			synctest.Wait()
		}
		callers.Wait()
		if want := []int{0, 1, 3, 2, 5, 4}; !slices.Equal(order, want) {
			t.Errorf("written in the order %v, want %v", order, want)
		}
	})
}

// Who gives up before a transaction has taken what it brought has written nothing; later
// nobody knows.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var written []int
		g := newGroupCommit(&database{}, 1, func(_ *Store, _ context.Context, all [][]int) ([]error, error) {
			written = append(written, slices.Concat(all...)...)
			time.Sleep(time.Minute) //nolint:forbidigo // a fake minute
			return nil, nil
		})
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var callers sync.WaitGroup
		for row, unknown := range []bool{true, false} {
			callers.Go(func() {
				err := bring(soon, g, row, 1)
				if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) != unknown {
					t.Errorf("row %d: %v; unknown: %t", row, err, unknown)
				}
			})
			synctest.Wait()
		}
		callers.Wait()
		time.Sleep(time.Hour) //nolint:forbidigo // a fake hour
		if !slices.Equal(written, []int{0}) {
			t.Errorf("written: %d", written)
		}
	})
}
