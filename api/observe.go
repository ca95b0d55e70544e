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
	"go.opentelemetry.io/otel/trace"
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
		s.metrics.count(c, elapsed)
		s.metrics.countLimited(err)
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
	if c.Path() == "" {
		return "unmatched"
	}
	return c.Path()
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
	case errors.Is(err, errNotReady): // asked by whoever likes, without a key; away logs the changes
		return slog.LevelDebug
	case errors.As(err, &limited) && limited.kind == problemWrongKeys:
		return slog.LevelDebug
	case status >= http.StatusInternalServerError:
		return slog.LevelError
	case !strings.HasPrefix(c.Path(), "/v1/"):
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
			Help: "Requests answered, by route, method and class of status.",
		}, labels),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "relay_http_request_duration_seconds",
			Help: "How long requests took, waiting for the end of a watch included.",
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

func (m *requestMetrics) count(c echo.Context, elapsed time.Duration) {
	method := c.Request().Method
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodPut, http.MethodHead, http.MethodOptions:
	default: // anything can stand there, and each would be a series of its own
		method = "other"
	}
	class := strconv.Itoa(c.Response().Status/100) + "xx"
	m.requests.WithLabelValues(route(c), method, class).Inc()
	m.durations.WithLabelValues(route(c), method, class).Observe(elapsed.Seconds())
}

func (m *requestMetrics) countLimited(err error) {
	if limited, ok := errors.AsType[*limitedError](err); ok {
		m.limited.WithLabelValues(limited.kind.slug).Inc()
	}
}
