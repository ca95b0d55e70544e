// Package api is the relay's HTTP API.
//
// openapi.yaml is its source: the types, the server interface and the Go
// client (package client) are generated from it, every request is checked
// against it, and it is what GET /openapi.yaml and /docs show. A handler
// decodes, checks what the document cannot say, makes one call to the store,
// and answers; errors are returned, and written in one place (problem.go).
package api

//go:generate go tool -modfile=../.tools/go.mod oapi-codegen -config oapi-server.yaml openapi.yaml

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

	"oprelay/api/feed"
	"oprelay/api/ratelimit"
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
	// name it tells ("redis"). The work goes on without them.
	Ready map[string]func(context.Context) error
	// Sources are the kinds of operation that can be watched.
	Sources Sources
	// Budgets is what the relay may ask of an upstream with one credential, and Intervals
	// are those between polls: what GET /v1/credentials/{id} shows. Nil shows no budget.
	Budgets   storage.Budgets
	Intervals storage.Intervals
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
	sources  Sources
	budgets  storage.Budgets
	own      storage.Intervals
	ready    map[string]func(context.Context) error
	metrics  *requestMetrics
	gatherer prometheus.Gatherer
	tracer   trace.Tracer // may be nil
	docs     func() (docsPage, error)
	echo     *echo.Echo
	mounted  http.Handler // may be nil
	waiters  waiters      // for the end of a watch
	feeds    *feed.Hub    // for streams of events
	// largeBodies are being sent.
	largeBodies waiters
	// A limiter is nil where there is no limit.
	keyLimit, wrongKeyLimit *ratelimit.Limiter
	asking                  singleflight.Group // GET /readyz
	away                    map[string]bool    // the parts that did not answer GET /readyz last

	// Each holds one for what is under way: GET /metrics, large bodies that are validated, idempotency keys that
	// are still to be released.
	scrapes, validating, releasing chan struct{}

	drainOnce sync.Once
	draining  chan struct{}
}

var _ ServerInterface = (*Server)(nil)

// New makes a Server. It fails if something it cannot do without is missing
// from the configuration, or if its metrics are already registered.
func New(config Config) (*Server, error) {
	if config.Store == nil || config.Logger == nil || config.Egress == nil || config.Sources == nil {
		return nil, errors.New("api: Store, Logger, Egress and Sources are required")
	}
	if config.Budgets == nil {
		config.Budgets = func(string) storage.Budget { return storage.Budget{} }
	}
	document, err := loadDocument()
	if err != nil {
		return nil, err
	}
	metrics, err := newRequestMetrics(config.Metrics)
	if err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	s := &Server{
		store:    config.Store,
		logger:   config.Logger,
		egress:   config.Egress,
		sources:  config.Sources,
		budgets:  config.Budgets,
		own:      config.Intervals,
		ready:    config.Ready,
		metrics:  metrics,
		gatherer: config.Gatherer,
		tracer:   config.Tracer,
		docs:     sync.OnceValues(func() (docsPage, error) { return renderDocs(document) }),
		away:     make(map[string]bool),
		draining: make(chan struct{}),
		scrapes:  make(chan struct{}, maxScrapes),

		validating: make(chan struct{}, maxValidating),
		releasing:  make(chan struct{}, maxReleasing),
	}
	if s.feeds, err = s.newHub(config); err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	if err := s.setLimits(config.Limits); err != nil {
		return nil, err
	}
	s.echo = s.routes(document)
	s.echo.IPExtractor = clientAddress(config.Limits.TrustedProxies)
	return s, nil
}

// routes registers every operation of the document, each behind its own checks.
func (s *Server) routes(document *document) *echo.Echo {
	e := echo.New()
	e.HTTPErrorHandler = s.writeProblem
	e.Use(s.observe, s.orMounted)
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

// Drain makes every request that waits for the end of a watch answer now, and
// ends the streams of events. Call it when the server begins to shut down;
// http.Server.RegisterOnShutdown is the place. It may be called more than once.
func (s *Server) Drain() {
	s.drainOnce.Do(func() { close(s.draining) })
	s.feeds.Drain()
}
