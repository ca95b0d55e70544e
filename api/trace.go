package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// requestSpan is the span of a request; its zero value is none.
type requestSpan struct{ span trace.Span }

// beginSpan puts a request of the API into the trace of its caller, if it has one,
// and begins its span if there is a tracer. A traceparent that is malformed, or
// given twice, is ignored, and a tracestate always: nobody here would read it.
func (s *Server) beginSpan(c echo.Context) requestSpan {
	r := c.Request()
	if !strings.HasPrefix(c.Path(), "/v1/") {
		return requestSpan{}
	}
	ctx := r.Context()
	if sent := r.Header["Traceparent"]; len(sent) == 1 {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparentField: sent[0]})
		c.SetRequest(r.WithContext(ctx))
	}
	if s.tracer == nil {
		return requestSpan{}
	}
	ctx, span := s.tracer.Start(ctx, r.Method+" "+route(c), trace.WithSpanKind(trace.SpanKindServer))
	if span.IsRecording() { // else what the request makes stays in its caller's trace, or in none
		c.SetRequest(r.WithContext(ctx))
	}
	return requestSpan{span}
}

// end tells how the request was answered. Its path and its query stay out: they are
// the client's, who may have put anything there.
func (s requestSpan) end(c echo.Context, err error) {
	if s.span == nil {
		return
	}
	defer s.span.End()
	if !s.span.IsRecording() {
		return
	}
	status := c.Response().Status
	s.span.SetAttributes(
		semconv.HTTPRequestMethodKey.String(c.Request().Method),
		semconv.HTTPRoute(route(c)),
		semconv.HTTPResponseStatusCode(status),
		attribute.String("relay.request.id", c.Response().Header().Get(echo.HeaderXRequestID)),
	)
	if r := requestOf(c); r != nil {
		s.span.SetAttributes(attribute.String("relay.key.id", r.key.ID), attribute.String("relay.tenant", r.key.TenantName))
	}
	if status >= http.StatusInternalServerError {
		s.span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
		s.span.SetStatus(codes.Error, cause(err))
	}
}

// cause is what the log says of an error, in one line.
func cause(err error) string {
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// traceparentField is how W3C's propagator calls what is stored.
const traceparentField = "traceparent"

// traceparentOf is what a row keeps to let what comes of it join the request's
// trace; "" if the request is part of none.
func traceparentOf(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get(traceparentField)
}
