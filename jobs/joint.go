package jobs

import (
	"context"
	"slices"
	"sync"

	"oprelay/storage"
)

// joint has several shifts write in one commit: what they bring while writers are
// at work is written together by the next. Events take their number from a counter
// of their tenant, so that transactions of their own would wait for one another.
type joint[R any] struct {
	write   func(ctx context.Context, rows []R) error
	writers chan struct{} // its capacity is how many write at a time

	mu      sync.Mutex
	waiting []*contribution[R]
}

// contribution is what one shift brings.
type contribution[R any] struct {
	rows    []R
	written chan error // capacity 1
}

func newJoint[R any](writers int, write func(context.Context, []R) error) *joint[R] {
	return &joint[R]{write: write, writers: make(chan struct{}, writers)}
}

// do returns once the rows are written, or are not. All who call it share one fate
// if the database is away; else what is wrong with the rows of one is told to that
// one alone. ctx is the same for all.
func (j *joint[R]) do(ctx context.Context, rows []R) error {
	mine := &contribution[R]{rows, make(chan error, 1)}
	j.mu.Lock()
	j.waiting = append(j.waiting, mine)
	j.mu.Unlock()
	for {
		select {
		case err := <-mine.written:
			return err
		case j.writers <- struct{}{}:
			j.writeAll(ctx, j.take())
			<-j.writers
		}
	}
}

// take is what has waited longest, and of the others those who bring least, up to a
// full batch: who comes with one result does not wait for thousands of others'.
func (j *joint[R]) take() []*contribution[R] {
	j.mu.Lock()
	defer j.mu.Unlock()
	taken := slices.Clone(j.waiting)
	slices.SortStableFunc(taken[min(1, len(taken)):], func(a, b *contribution[R]) int { return len(a.rows) - len(b.rows) })
	n, rows := 0, 0
	for n < len(taken) && (n == 0 || rows+len(taken[n].rows) <= recordMost) {
		rows += len(taken[n].rows)
		n++
	}
	taken = taken[:n]
	j.waiting = slices.DeleteFunc(j.waiting, func(c *contribution[R]) bool { return slices.Contains(taken, c) })
	return taken
}

func (j *joint[R]) writeAll(ctx context.Context, all []*contribution[R]) {
	if len(all) == 0 { // others have taken what there was
		return
	}
	parts := make([][]R, len(all))
	for i, c := range all {
		parts[i] = c.rows
	}
	err := j.write(ctx, slices.Concat(parts...))
	for _, c := range all {
		if err != nil && !storage.Unavailable(err) && len(all) > 1 {
			c.written <- j.write(ctx, c.rows)
			continue
		}
		c.written <- err
	}
}
