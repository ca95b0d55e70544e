package deliver

import (
	"context"
	"net/url"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"oprelay/notifier"
)

// traceparentField is how W3C's propagator calls what is stored.
const traceparentField = "traceparent"

// startSpan begins the span of an attempt, a child of the request that registered the
// watch. traceparent is for the receiver: this span, or without a tracer the one that the
// registration came from. It is "" if the message is part of no trace, as a digest is not.
func startSpan(tracer trace.Tracer, s send) (span trace.Span, traceparent string) {
	if s.digest() || len(s.deliveries) == 0 || s.deliveries[0].Traceparent == "" {
		return noop.Span{}, ""
	}
	due := s.deliveries[0]
	if tracer == nil {
		return noop.Span{}, due.Traceparent
	}
	w3c := propagation.TraceContext{}
	parent := w3c.Extract(context.Background(), propagation.MapCarrier{traceparentField: due.Traceparent})
	ctx, span := tracer.Start(parent, "deliver "+s.to.Kind, trace.WithSpanKind(trace.SpanKindClient))
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	if span.IsRecording() {
		span.SetAttributes(attemptAttributes(s)...)
	}
	return span, carrier.Get(traceparentField)
}

// attemptAttributes name what is sent where. Of a URL that is at most the host: the
// rest may be a secret, as all of it is that Slack gives out.
func attemptAttributes(s send) []attribute.KeyValue {
	due := s.deliveries[0]
	attributes := []attribute.KeyValue{
		semconv.HTTPRequestMethodPost,
		attribute.String("relay.delivery.id", due.ID),
		attribute.Int("relay.delivery.attempt", due.AttemptsMade+1),
		attribute.String("relay.destination.id", s.to.ID),
		attribute.String("relay.destination.kind", s.to.Kind),
		attribute.String("relay.event.id", due.EventID),
		attribute.String("relay.event.type", due.EventType),
		attribute.String("relay.watch.id", due.WatchID),
	}
	if due.AttemptsMade > 0 {
		attributes = append(attributes, semconv.HTTPRequestResendCount(due.AttemptsMade))
	}
	if u, err := url.Parse(s.to.URL); err == nil && u.Host != "" {
		attributes = append(attributes, semconv.ServerAddress(u.Hostname()))
	}
	return attributes
}

// endSpan tells what came of the attempt. The texts of a [notifier.Error] hold no secret.
func endSpan(span trace.Span, outcome notifier.Outcome, err error) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	if outcome.StatusCode != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(outcome.StatusCode))
	}
	if err == nil {
		span.SetAttributes(attribute.String("relay.attempt.outcome", accepted))
		return
	}
	failure := explain(err)
	kind := failure.Kind.String()
	span.SetAttributes(attribute.String("relay.attempt.outcome", kind))
	if outcome.StatusCode != 0 {
		kind = strconv.Itoa(outcome.StatusCode)
	}
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	span.SetStatus(codes.Error, failure.Error())
}
