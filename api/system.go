package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout is how long a part may take to answer GET /readyz.
const readyTimeout = 2 * time.Second

// GetHealth says that the process lives: GET /healthz.
func (s *Server) GetHealth(c echo.Context) error {
	return respond(c, Health{Status: Ok})
}

// GetReadiness says whether every part answers, and else which does not:
// GET /readyz.
func (s *Server) GetReadiness(c echo.Context) error {
	checks := map[string]func(context.Context) error{"database": s.store.Ping}
	maps.Copy(checks, s.ready)
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer cancel()
	var (
		mu   sync.Mutex
		away []string
		all  sync.WaitGroup
	)
	for name, check := range checks {
		all.Go(func() {
			if err := check(ctx); err != nil {
				s.logger.WarnContext(ctx, "not ready", "part", name, "error", err)
				mu.Lock()
				defer mu.Unlock()
				away = append(away, name)
			}
		})
	}
	all.Wait()
	if len(away) > 0 {
		slices.Sort(away)
		return fmt.Errorf("%w: %s does not answer", errNotReady, strings.Join(away, ", "))
	}
	return respond(c, Health{Status: Ok})
}

// GetMetrics shows the metrics, unless they are on another listener:
// GET /metrics.
func (s *Server) GetMetrics(c echo.Context) error {
	if s.gatherer == nil {
		return echo.ErrNotFound
	}
	promhttp.HandlerFor(s.gatherer, promhttp.HandlerOpts{}).ServeHTTP(c.Response(), c.Request())
	return nil
}

// GetDocument shows the API's document: GET /openapi.yaml.
func (s *Server) GetDocument(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/yaml", documentSource)
}

// GetDocs shows the document as a page to read: GET /docs.
func (s *Server) GetDocs(c echo.Context) error {
	c.Response().Header().Set(echo.HeaderContentSecurityPolicy, s.docs.policy)
	return c.Blob(http.StatusOK, "text/html; charset=utf-8", s.docs.html)
}
