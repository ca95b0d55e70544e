package poll

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"oprelay/jobs/source"
	"oprelay/storage"
)

const testTraceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// counting counts the spans that are begun.
type counting struct {
	noop.Tracer

	spans int
}

func (c *counting) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	c.spans++
	return c.Tracer.Start(ctx, name, options...)
}

// A watch of a month gets the beginning and the end, not thousands of spans.
func TestPollsThatAreTraced(t *testing.T) {
	t.Parallel()
	var traced []int
	for polls := range 1000 {
		c := &counting{}
		answer := source.Answer{Verdict: source.Running}
		switch polls {
		case 500:
			answer = source.Answer{Verdict: source.Inconclusive, Problem: "HTTP 500"}
		case 999:
			answer = source.Answer{Verdict: source.Completed}
		}
		due := row{storage.DuePoll{Traceparent: testTraceparent, Polls: polls, Status: storage.OperationRunning}}
		tracePoll(c, due, answer, time.Now())
		if c.spans > 0 {
			traced = append(traced, polls)
		}
	}
	wanted := []int{999}
	for i := range tracedPolls {
		wanted = slices.Insert(wanted, i, i)
	}
	if !slices.Equal(traced, wanted) {
		t.Errorf("polls %v are traced, want %v", traced, wanted)
	}
}

// What is part of no trace costs nothing, with a tracer and without.
func TestNoTraceCostsNothing(t *testing.T) { // AllocsPerRun refuses parallel tests
	c := &counting{}
	for name, work := range map[string]struct {
		tracer      trace.Tracer
		traceparent string
	}{
		"no tracer":               {nil, ""},
		"no tracer, but a caller": {nil, testTraceparent},
		"a tracer, but no trace":  {c, ""},
	} {
		due := row{storage.DuePoll{Traceparent: work.traceparent}}
		answer := source.Answer{Verdict: source.Completed}
		allocations := testing.AllocsPerRun(100, func() { tracePoll(work.tracer, due, answer, time.Time{}) })
		if allocations != 0 || c.spans != 0 {
			t.Errorf("%s: %v allocations, %d spans", name, allocations, c.spans)
		}
	}
}
