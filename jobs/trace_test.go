package jobs

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"oprelay/jobs/cloudflare"
	"oprelay/notifier"
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

func aDelivery(traceparent string) errand {
	return errand{
		to:       &opened{Destination: storage.Destination{ID: "destination_1", Kind: storage.KindWebhook, URL: "https://example.com/in?token=x"}},
		delivery: &storage.DueDelivery{ID: "delivery_1", EventID: "event_1", Traceparent: traceparent},
	}
}

// Whoever watches for a month gets the beginning and the end, not thousands of spans.
func TestPollsThatAreTraced(t *testing.T) {
	t.Parallel()
	var traced []int
	for polls := range 1000 {
		c := &counting{}
		answer := cloudflare.Answer{Outcome: cloudflare.InProgress, Status: cloudflare.StatusRunning}
		switch polls {
		case 500:
			answer = cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "HTTP 500"}
		case 999:
			answer = cloudflare.Answer{Outcome: cloudflare.Terminal, Status: cloudflare.StatusCompleted}
		}
		due := storage.DuePoll{Traceparent: testTraceparent, Polls: polls, Status: cloudflare.StatusRunning}
		tracing{c}.polled(due, answer, time.Now())
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
		tracing

		traceparent string
	}{
		"no tracer":               {tracing{}, ""},
		"no tracer, but a caller": {tracing{}, testTraceparent},
		"a tracer, but no trace":  {tracing{c}, ""},
	} {
		e, due := aDelivery(work.traceparent), storage.DuePoll{Traceparent: work.traceparent}
		answer := cloudflare.Answer{Outcome: cloudflare.Terminal, Status: cloudflare.StatusCompleted}
		allocations := testing.AllocsPerRun(100, func() {
			work.polled(due, answer, time.Time{})
			span, traceparent := work.attempt(e)
			span.end(notifier.Outcome{StatusCode: 204}, nil)
			if traceparent != work.traceparent {
				t.Errorf("%s: the receiver gets %q, want %q", name, traceparent, work.traceparent)
			}
		})
		if allocations != 0 || c.spans != 0 {
			t.Errorf("%s: %v allocations, %d spans", name, allocations, c.spans)
		}
	}
}

func BenchmarkAttemptWithoutTraces(b *testing.B) {
	e := aDelivery("")
	b.ReportAllocs()
	for b.Loop() {
		span, _ := tracing{}.attempt(e)
		span.end(notifier.Outcome{StatusCode: 204}, nil)
	}
}
