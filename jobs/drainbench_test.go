package jobs

import (
	"context"
	"strconv"
	"testing"
	"time"
)

// BenchmarkDrain is what a row costs beside its claim, its request and its record.
func BenchmarkDrain(b *testing.B) {
	b.ReportAllocs()
	next := 0
	d := drain[int, int]{
		claim: func(_ context.Context, n int, _ map[string]bool) ([]int, time.Time, error) {
			rows := make([]int, min(n, b.N-next))
			for i := range rows {
				rows[i] = next
				next++
			}
			return rows, time.Time{}, nil
		},
		pace:   func() pace { return pace{limit: 20} },
		id:     strconv.Itoa,
		do:     func(_ context.Context, row int) (int, bool) { return row, true },
		learn:  func(int) {},
		record: func(context.Context, []int) error { return nil },
		ahead:  ahead,
	}
	if _, err := d.run(b.Context(), b.Context(), nil, leased()); err != nil {
		b.Fatal(err)
	}
}
