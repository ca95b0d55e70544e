package poll

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"oprelay/jobs/source"
)

// tracedPolls is how many polls of an operation get a span, beside those that find
// another status: a watch of a month does not get a trace of thousands of spans that
// all say the same.
const tracedPolls = 32

// tracePoll makes the span of a poll that has just been answered. It is a child of the
// request that registered the watch, so that one trace tells the whole story, whichever
// processes it took place in. A watch that is part of no trace gets no span. A nil tracer
// makes none.
func tracePoll(tracer trace.Tracer, due row, answer source.Answer, started time.Time) {
	changed := answer.Verdict.Known() && string(answer.Verdict) != due.Status
	if tracer == nil || due.Traceparent == "" || due.Polls >= tracedPolls && !changed {
		return
	}
	parent := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": due.Traceparent})
	_, span := tracer.Start(parent, "poll "+due.Source, trace.WithTimestamp(started), trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		semconv.HTTPRequestMethodGet,
		attribute.String("relay.poll.outcome", string(answer.Verdict)),
		attribute.Int("relay.poll.number", due.Polls+1),
		attribute.String("relay.credential.id", due.CredentialID),
		attribute.String("relay.operation.source", due.Source),
		attribute.String("relay.operation.id", due.OperationID),
		attribute.String("relay.operation.upstream_status", answer.UpstreamStatus),
	)
	if answer.Verdict.Known() {
		span.SetAttributes(attribute.String("relay.operation.status", string(answer.Verdict)))
	}
	for name, value := range due.Params {
		span.SetAttributes(attribute.String("relay.operation.params."+name, value))
	}
	if answer.HTTPStatus != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(answer.HTTPStatus))
	}
	if !answer.Verdict.Known() {
		span.SetAttributes(semconv.ErrorTypeKey.String(string(answer.Verdict)))
		span.SetStatus(codes.Error, answer.Problem)
	}
}
