package deliver

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

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

func aDelivery(traceparent string) send {
	return send{
		to:         &opened{Destination: storage.Destination{ID: "destination_1", Kind: storage.KindWebhook, URL: "https://example.com/in?token=x"}},
		deliveries: []storage.DueDelivery{{ID: "delivery_1", EventID: "event_1", Traceparent: traceparent}},
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
		s := aDelivery(work.traceparent)
		allocations := testing.AllocsPerRun(100, func() {
			span, traceparent := startSpan(work.tracer, s)
			endSpan(span, notifier.Outcome{StatusCode: 204}, nil)
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
	s := aDelivery("")
	b.ReportAllocs()
	for b.Loop() {
		span, _ := startSpan(nil, s)
		endSpan(span, notifier.Outcome{StatusCode: 204}, nil)
	}
}
