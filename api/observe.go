package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"oprelay/api/feed"
)

// panicError is a panic of a handler, on its way to the log.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// observe goes around every request: it names it, sets the headers that every
// answer carries, has errors and panics written, and logs and counts once.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		setHeaders(c)
		span := s.beginSpan(c)
		err := protect(next, c)
		if err != nil {
			c.Error(err) // writes the problem
		}
		elapsed := time.Since(start)
		if !inside(c) { // the page that it is for is counted
			s.metrics.count(c, elapsed, err)
		}
		s.log(c, elapsed, err)
		span.end(c, err)
		return nil
	}
}

// protect turns a panic into an error.
func protect(next echo.HandlerFunc, c echo.Context) (err error) {
	defer func() {
		switch value := recover(); value {
		case nil:
		case http.ErrAbortHandler: // net/http's own way to hang up
			panic(value)
		default:
			err = &panicError{value: value, stack: debug.Stack()}
		}
	}()
	return next(c)
}

// setHeaders names the request and sets what every answer carries. Answers
// are data for programs: nothing in them may run, be framed, or be kept.
func setHeaders(c echo.Context) {
	header := c.Response().Header()
	id := c.Request().Header.Get(echo.HeaderXRequestID)
	if !saneRequestID(id) {
		id = strings.ToLower(rand.Text())
	}
	header.Set(echo.HeaderXRequestID, id)
	header.Set(echo.HeaderXContentTypeOptions, "nosniff")
	header.Set(echo.HeaderXFrameOptions, "DENY")
	header.Set(echo.HeaderContentSecurityPolicy, "default-src 'none'; frame-ancestors 'none'")
	header.Set(echo.HeaderReferrerPolicy, "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set(echo.HeaderCacheControl, "no-store")
}

// saneRequestID says whether an id from outside may stand in a log.
func saneRequestID(id string) bool {
	const most = 128
	return id != "" && len(id) <= most && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._:-", r)
	})
}

// route is the template of the path, which says what was asked without ids.
func route(c echo.Context) string {
	path := c.Path()
	if path == anyPath {
		_, path, _ = strings.Cut(c.Request().Pattern, " ")
	}
	if path == "" {
		return "unmatched"
	}
	return path
}

func (s *Server) log(c echo.Context, elapsed time.Duration, err error) {
	status := c.Response().Status
	attrs := []slog.Attr{
		slog.String("method", c.Request().Method),
		slog.String("route", route(c)),
		slog.Int("status", status),
		slog.Duration("duration", elapsed),
		slog.String("request_id", c.Response().Header().Get(echo.HeaderXRequestID)),
	}
	if r := requestOf(c); r != nil {
		attrs = append(attrs, slog.String("key_id", r.key.ID), slog.String("tenant", r.key.TenantName))
	}
	if inside(c) {
		attrs = append(attrs, slog.Bool("console", true))
	}
	if span := trace.SpanContextFromContext(c.Request().Context()); span.IsValid() {
		attrs = append(attrs, slog.String("trace_id", span.TraceID().String()))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	s.logger.LogAttrs(c.Request().Context(), level(c, status, err), "request", attrs...)
}

// level is error for faults of ours, info for what clients ask, debug for what
// machines ask all the time, or an abuser who was told to wait.
func level(c echo.Context, status int, err error) slog.Level {
	var limited *limitedError
	switch {
	case errors.Is(err, context.Canceled): // the client hung up
		return slog.LevelInfo
	case errors.Is(err, errNotReady): // anybody may ask, without a key; logChange logs it
		return slog.LevelDebug
	case errors.As(err, &limited) && limited.kind == problemWrongKeys:
		return slog.LevelDebug
	case status >= http.StatusInternalServerError:
		return slog.LevelError
	case !strings.HasPrefix(c.Path(), "/v1/"):
		return slog.LevelDebug
	case inside(c) && c.Request().Method == http.MethodGet: // for a page
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// requestMetrics counts requests and their time.
type requestMetrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	limited   *prometheus.CounterVec
}

func newRequestMetrics(registerer prometheus.Registerer) (*requestMetrics, error) {
	labels := []string{"route", "method", "status"}
	m := &requestMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_http_requests_total",
			Help: "Requests, by route, method and class of status, which is canceled where the client hung up.",
		}, labels),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "relay_http_request_duration_seconds",
			Help: "How long requests took, waiting for the end of a watch included, but not streams.",
			// Up to the longest wait.
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 30, 60},
		}, labels),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_http_rate_limited_total",
			Help: "Requests told to wait: with a key over its limit, or from an address with too many wrong keys.",
		}, []string{"limit"}),
	}
	for _, kind := range []problemKind{problemRateLimited, problemWrongKeys} {
		m.limited.WithLabelValues(kind.slug) // 0 from the start, so that the first one shows in a rate
	}
	if registerer == nil {
		return m, nil
	}
	return m, errors.Join(registerer.Register(m.requests), registerer.Register(m.durations), registerer.Register(m.limited))
}

func (m *requestMetrics) count(c echo.Context, elapsed time.Duration, err error) {
	method := c.Request().Method
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodPut, http.MethodHead, http.MethodOptions:
	default: // anything can stand there, and each would be a series of its own
		method = "other"
	}
	class := strconv.Itoa(c.Response().Status/100) + "xx"
	if errors.Is(err, context.Canceled) && c.Request().Context().Err() != nil {
		class = "canceled" // nobody was answered: no failure of ours, and no alert is to count it
	}
	m.requests.WithLabelValues(route(c), method, class).Inc()
	if c.Response().Header().Get(echo.HeaderContentType) != feed.ContentType { // which lasts as its reader likes
		m.durations.WithLabelValues(route(c), method, class).Observe(elapsed.Seconds())
	}
	if limited, ok := errors.AsType[*limitedError](err); ok {
		m.limited.WithLabelValues(limited.kind.slug).Inc()
	}
}

// requestSpan is the span of a request; its zero value is none.
type requestSpan struct{ span trace.Span }

// beginSpan puts a request of the API into the trace of its caller, if it has one,
// and begins its span if there is a tracer. A traceparent that is malformed, or
// given twice, is ignored, and so is every tracestate, which nothing here reads.
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
