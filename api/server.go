package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"

	"oprelay/storage"
)

// URLChecker says whether a URL may become a destination. Its error is shown
// to whoever sent the URL, and must not quote it.
type URLChecker interface {
	CheckURL(ctx context.Context, raw string) error
}

// Config is what the API works with.
type Config struct {
	Store  *storage.Store
	Logger *slog.Logger
	// Egress judges the URLs of new destinations.
	Egress URLChecker
	// Ready are the parts beside the database that GET /readyz asks, by the
	// name it tells ("redis").
	Ready map[string]func(context.Context) error
	// Limits are what callers are held to; the zero Limits are none.
	Limits Limits
	// Metrics is where the API's own metrics are registered; nil for none.
	Metrics prometheus.Registerer
	// Gatherer is what GET /metrics shows; nil leaves /metrics to another
	// listener, and answers 404 here.
	Gatherer prometheus.Gatherer
	// Tracer makes a span of each request under /v1; nil makes none.
	Tracer trace.Tracer
}

// Server answers the API's requests. It is an http.Handler.
type Server struct {
	store    *storage.Store
	logger   *slog.Logger
	egress   URLChecker
	ready    map[string]func(context.Context) error
	metrics  *requestMetrics
	gatherer prometheus.Gatherer
	tracer   trace.Tracer // may be nil
	docs     docsPage
	echo     *echo.Echo
	waiters  waiters
	large    large
	turns    turns
	gate     *gate
	asking   singleflight.Group // GET /readyz
	unready  unready
	scrapes  chan struct{} // holds one for each GET /metrics under way

	drainOnce sync.Once
	draining  chan struct{}
	dropping  chan struct{} // holds one for each reservation that is still to be given up
}

var _ ServerInterface = (*Server)(nil)

// New makes a Server. It fails if something it cannot do without is missing
// from the configuration, or if its metrics are already registered.
func New(config Config) (*Server, error) {
	if config.Store == nil || config.Logger == nil || config.Egress == nil {
		return nil, errors.New("api: Store, Logger and Egress are required")
	}
	document, err := loadDocument()
	if err != nil {
		return nil, err
	}
	metrics, err := newRequestMetrics(config.Metrics)
	if err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	docs, err := renderDocs(document)
	if err != nil {
		return nil, err
	}
	gate, err := newGate(config.Limits)
	if err != nil {
		return nil, err
	}
	s := &Server{
		gate:     gate,
		store:    config.Store,
		logger:   config.Logger,
		egress:   config.Egress,
		ready:    config.Ready,
		metrics:  metrics,
		gatherer: config.Gatherer,
		tracer:   config.Tracer,
		docs:     docs,
		draining: make(chan struct{}),
		scrapes:  make(chan struct{}, scrapesMost),
		dropping: make(chan struct{}, dropsMost),
		turns:    make(turns, maxTurns),
	}
	s.echo = s.routes(document)
	s.echo.IPExtractor = clientAddress(config.Limits.TrustedProxies)
	return s, nil
}

// routes registers every operation of the document, each behind its own checks.
func (s *Server) routes(document *document) *echo.Echo {
	e := echo.New()
	e.HTTPErrorHandler = s.writeProblem
	e.Use(s.observe)
	guards := make(map[string][]echo.MiddlewareFunc)
	for id, operation := range document.operations {
		if operation.scope != "" {
			guards[id] = []echo.MiddlewareFunc{s.admit(operation)}
		}
	}
	RegisterHandlersWithOptions(withHead{e}, s, RegisterHandlersOptions{OperationMiddlewares: guards})
	return e
}

// withHead registers HEAD beside every GET (RFC 9110, section 9.1): the same
// handler, whose body net/http leaves out.
type withHead struct{ *echo.Echo }

// GET registers a handler for GET and HEAD.
func (e withHead) GET(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	e.HEAD(path, h, m...)
	return e.Echo.GET(path, h, m...)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// Drain makes every request that waits for the end of a watch answer now.
// Call it when the server begins to shut down; http.Server.RegisterOnShutdown
// is the place. It may be called more than once.
func (s *Server) Drain() { s.drainOnce.Do(func() { close(s.draining) }) }
