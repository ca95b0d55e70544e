package pipeline

import (
	"context"
	"testing"
	"time"
)

// many is work that costs nothing.
type many struct {
	pile

	left int
}

// Claim implements Work.
func (m *many) Claim(_ context.Context, n int, _ map[string]bool) ([]row, time.Time, error) {
	rows := make([]row, min(n, m.left))
	for i := range rows {
		rows[i] = row(m.left)
		m.left--
	}
	return rows, time.Time{}, nil
}

// Do implements Work.
func (*many) Do(_ context.Context, r row) (row, bool) { return r, true }

// Record implements Work.
func (*many) Record(context.Context, []row) error { return nil }

// BenchmarkPipeline is what a row costs beside its claim, its request and its record.
func BenchmarkPipeline(b *testing.B) {
	b.ReportAllocs()
	p := Pipeline[row, row]{Work: &many{pile{limit: 20}, b.N}, Ahead: Ahead}
	if _, err := p.Run(b.Context(), b.Context(), Lease{}); err != nil {
		b.Fatal(err)
	}
}
