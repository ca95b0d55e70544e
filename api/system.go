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

// scrapesMost bounds the requests for metrics at once: each asks the database.
const scrapesMost = 4

// GetHealth says that the process lives: GET /healthz.
func (s *Server) GetHealth(c echo.Context) error {
	return respond(c, Health{Status: Ok})
}

// GetReadiness says whether every part answers, and else which does not:
// GET /readyz. Requests that come while the parts are being asked share the
// answer: no key is needed to ask, and a part that hangs is asked once and not
// once by each.
func (s *Server) GetReadiness(c echo.Context) error {
	ctx := c.Request().Context()
	answer := s.asking.DoChan("", func() (any, error) { return s.away(context.WithoutCancel(ctx)), nil })
	select {
	case <-ctx.Done():
		return ctx.Err()
	case found := <-answer:
		if away, _ := found.Val.([]string); len(away) > 0 {
			return fmt.Errorf("%w: %s does not answer", errNotReady, strings.Join(away, ", "))
		}
	}
	return respond(c, Health{Status: Ok})
}

// unready remembers which parts do not answer.
type unready struct {
	mu    sync.Mutex
	parts map[string]bool
}

// changed keeps a part's state, and says whether it was another before.
func (u *unready) changed(part string, away bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.parts[part] == away {
		return false
	}
	if u.parts == nil {
		u.parts = make(map[string]bool)
	}
	u.parts[part] = away
	return true
}

// away asks every part, and names those that do not answer. It logs when that
// changes, and not what each asks: whoever needs no key must not fill the log.
func (s *Server) away(ctx context.Context) []string {
	checks := map[string]func(context.Context) error{"database": s.store.Ping}
	maps.Copy(checks, s.ready)
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var (
		mu   sync.Mutex
		away []string
		all  sync.WaitGroup
	)
	for name, check := range checks {
		all.Go(func() {
			err := check(ctx)
			switch changed := s.unready.changed(name, err != nil); {
			case changed && err != nil:
				s.logger.WarnContext(ctx, "not ready", "part", name, "error", err)
			case changed:
				s.logger.InfoContext(ctx, "ready again", "part", name)
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				away = append(away, name)
			}
		})
	}
	all.Wait()
	slices.Sort(away)
	return away
}

// GetMetrics shows the metrics, unless they are on another listener:
// GET /metrics.
func (s *Server) GetMetrics(c echo.Context) error {
	if s.gatherer == nil {
		return echo.ErrNotFound
	}
	select {
	case s.scrapes <- struct{}{}:
		defer func() { <-s.scrapes }()
	default:
		return fmt.Errorf("%w: %d requests for metrics are under way", errNotReady, scrapesMost)
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
