package jobs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestJoint(t *testing.T) {
	t.Parallel()
	poison := errors.New("value out of range")
	for _, test := range []struct {
		name    string
		refuse  func(rows []int) error
		batches [][]int
		failed  map[int]error
	}{
		{
			name: "written together", refuse: func([]int) error { return nil },
			batches: [][]int{{0}, {1, 2, 3}},
		},
		{
			name: "one is refused", batches: [][]int{{0}, {1, 2, 3}, {1}, {2}, {3}}, failed: map[int]error{2: poison},
			refuse: func(rows []int) error {
				if slices.Contains(rows, 2) {
					return poison
				}
				return nil
			},
		},
		{
			name: "the database is away", refuse: func([]int) error { return errUnavailable }, batches: [][]int{{0}, {1, 2, 3}},
			failed: map[int]error{0: errUnavailable, 1: errUnavailable, 2: errUnavailable, 3: errUnavailable},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var batches [][]int
				j := newJoint(1, func(ctx context.Context, rows []int) error {
					batches = append(batches, slices.Sorted(slices.Values(rows)))
					wait(ctx, time.Second)
					return test.refuse(rows)
				})
				var shifts sync.WaitGroup
				for row := range 4 { // the first is being written when the others come
					shifts.Go(func() {
						if err := j.do(t.Context(), []int{row}); !errors.Is(err, test.failed[row]) {
							t.Errorf("row %d: %v, want %v", row, err, test.failed[row])
						}
					})
					if row == 0 {
						synctest.Wait()
					}
				}
				shifts.Wait()
				if len(batches) > 2 { // the single ones, in any order
					slices.SortFunc(batches[2:], slices.Compare)
				}
				if !slices.EqualFunc(batches, test.batches, slices.Equal) {
					t.Errorf("written in %v, want %v", batches, test.batches)
				}
			})
		})
	}
}

// A batch has its bounds, whoever brings how much.
func TestJointBatchIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		j := newJoint(1, func(ctx context.Context, rows []int) error {
			sizes = append(sizes, len(rows))
			wait(ctx, time.Second)
			return nil
		})
		var shifts sync.WaitGroup
		for range 7 {
			shifts.Go(func() {
				if err := j.do(t.Context(), make([]int, recordMost/2)); err != nil {
					t.Error(err)
				}
			})
		}
		shifts.Wait()
		sum := 0
		for _, n := range sizes {
			sum += n
		}
		if sum != 7*recordMost/2 || slices.Max(sizes) > recordMost {
			t.Errorf("written in batches of %v", sizes)
		}
	})
}

// Who brings one result does not wait for those who bring hundreds; and who has waited
// longest is always among the next, however much it brings.
func TestLittleIsWrittenBeforeMuch(t *testing.T) {
	t.Parallel()
	j := newJoint[int](1, nil)
	for _, n := range []int{recordMost - 10, recordMost - 1, 1, 2} {
		j.waiting = append(j.waiting, &contribution[int]{rows: make([]int, n)})
	}
	sizes := func() (all []int) {
		for _, c := range j.take() {
			all = append(all, len(c.rows))
		}
		return all
	}
	if got, want := sizes(), []int{recordMost - 10, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("first %d are taken together, want %d", got, want)
	}
	if got, want := sizes(), []int{recordMost - 1}; !slices.Equal(got, want) || sizes() != nil {
		t.Errorf("then %d, want %d and no more", got, want)
	}
}
