package jobs

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"oprelay/jobs/cloudflare"
	"oprelay/notifier"
	"oprelay/storage"
)

// tracedPolls is how many polls of an operation get a span, beside those that find
// another status: who watches something for a month does not get a trace of
// thousands of spans that all say the same.
const tracedPolls = 32

// tracing makes the spans of polls and attempts. They are children of the request
// that registered the watch, not only linked to it: there are few of them, and one
// trace then tells the whole story, whichever processes it took place in. What is
// part of no trace gets no span, so the decision to sample is the registration's.
type tracing struct {
	tracer trace.Tracer // nil makes no spans
}

// polled tells of a poll that has just been answered.
func (t tracing) polled(due storage.DuePoll, answer cloudflare.Answer, started time.Time) {
	changed := answer.Status != "" && answer.Status != due.Status
	if t.tracer == nil || due.Traceparent == "" || due.Polls >= tracedPolls && !changed {
		return
	}
	_, span := t.tracer.Start(traceContext(due.Traceparent), "poll "+due.Source,
		trace.WithTimestamp(started), trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		semconv.HTTPRequestMethodGet,
		attribute.String("relay.poll.outcome", string(answer.Outcome)),
		attribute.Int("relay.poll.number", due.Polls+1),
		attribute.String("relay.credential.id", due.CredentialID),
		attribute.String("relay.operation.source", due.Source),
		attribute.String("relay.operation.account_id", due.AccountID),
		attribute.String("relay.operation.id", due.OperationID),
		attribute.String("relay.operation.status", answer.Status),
	)
	if answer.HTTPStatus != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(answer.HTTPStatus))
	}
	if answer.Outcome != cloudflare.InProgress && answer.Outcome != cloudflare.Terminal {
		span.SetAttributes(semconv.ErrorTypeKey.String(string(answer.Outcome)))
		span.SetStatus(codes.Error, answer.Problem)
	}
}

// attemptSpan is the span of an attempt; its zero value is none.
type attemptSpan struct{ span trace.Span }

// attempt begins the span of an attempt. traceparent is for the receiver: this
// span, or without a tracer the one that the registration came from. It is "" if
// the delivery is part of no trace.
func (t tracing) attempt(e errand) (s attemptSpan, traceparent string) {
	if e.delivery == nil || e.delivery.Traceparent == "" {
		return attemptSpan{}, ""
	}
	if t.tracer == nil {
		return attemptSpan{}, e.delivery.Traceparent
	}
	ctx, span := t.tracer.Start(traceContext(e.delivery.Traceparent), "deliver "+e.to.Kind,
		trace.WithSpanKind(trace.SpanKindClient))
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	if span.IsRecording() {
		span.SetAttributes(attemptAttributes(e)...)
	}
	return attemptSpan{span}, carrier.Get(traceparentField)
}

// attemptAttributes name what is sent where. Of a URL that is at most the host: the
// rest may be a secret, as all of it is that Slack gives out.
func attemptAttributes(e errand) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		semconv.HTTPRequestMethodPost,
		attribute.String("relay.delivery.id", e.delivery.ID),
		attribute.Int("relay.delivery.attempt", e.delivery.AttemptsMade+1),
		attribute.String("relay.destination.id", e.to.ID),
		attribute.String("relay.destination.kind", e.to.Kind),
		attribute.String("relay.event.id", e.delivery.EventID),
		attribute.String("relay.event.type", e.delivery.EventType),
		attribute.String("relay.watch.id", e.delivery.WatchID),
	}
	if e.delivery.AttemptsMade > 0 {
		attributes = append(attributes, semconv.HTTPRequestResendCount(e.delivery.AttemptsMade))
	}
	if u, err := url.Parse(e.to.URL); err == nil && u.Host != "" {
		attributes = append(attributes, semconv.ServerAddress(u.Hostname()))
	}
	return attributes
}

// end tells what came of the attempt. The texts of a [notifier.Error] hold no secret.
func (s attemptSpan) end(outcome notifier.Outcome, err error) {
	if s.span == nil {
		return
	}
	defer s.span.End()
	if !s.span.IsRecording() {
		return
	}
	if outcome.StatusCode != 0 {
		s.span.SetAttributes(semconv.HTTPResponseStatusCode(outcome.StatusCode))
	}
	if err == nil {
		s.span.SetAttributes(attribute.String("relay.attempt.outcome", "accepted"))
		return
	}
	failure := explain(err)
	kind := failure.Kind.String()
	s.span.SetAttributes(attribute.String("relay.attempt.outcome", kind))
	if outcome.StatusCode != 0 {
		kind = strconv.Itoa(outcome.StatusCode)
	}
	s.span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	s.span.SetStatus(codes.Error, failure.Error())
}

// traceparentField is how W3C's propagator calls what is stored.
const traceparentField = "traceparent"

// traceContext is a context in the trace of what another process began.
func traceContext(traceparent string) context.Context {
	return propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{traceparentField: traceparent})
}
