package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"oprelay/storage"
)

// database is the part that the work cannot go on without.
const database = "database"

// readyTimeout is how long a part may take to answer GET /readyz.
const readyTimeout = 2 * time.Second

// maxScrapes bounds the requests for metrics at once: each asks the database.
const maxScrapes = 4

// GetHealth says that the process lives: GET /healthz.
func (s *Server) GetHealth(c echo.Context) error {
	return respond(c, Health{Status: HealthStatusOk})
}

// GetReadiness says of each part whether it answers, and is a problem while the database does not: GET /readyz.
// No key is needed to ask, so requests that come while the parts are being asked share the answer.
func (s *Server) GetReadiness(c echo.Context) error {
	ctx := c.Request().Context()
	answer := s.asking.DoChan("", func() (any, error) { return s.readiness(context.WithoutCancel(ctx)) })
	select {
	case <-ctx.Done():
		return ctx.Err()
	case found := <-answer:
		if found.Err != nil {
			return found.Err
		}
		return respond(c, found.Val)
	}
}

// readiness asks every part. Only one runs at a time.
func (s *Server) readiness(ctx context.Context) (Readiness, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var (
		mu    sync.Mutex
		all   sync.WaitGroup
		found = make(map[string]error)
	)
	ask := func(name string, check func(context.Context) error) {
		err := check(ctx)
		mu.Lock()
		defer mu.Unlock()
		found[name] = err
	}
	all.Go(func() { ask(database, s.store.Ready) })
	for name, check := range s.ready {
		all.Go(func() { ask(name, check) })
	}
	all.Wait()
	ready := Readiness{Status: ReadinessStatusOk, Parts: make(map[string]ReadinessPart)}
	var states []string
	for _, name := range sortedKeys(found) {
		s.logChange(ctx, name, found[name])
		part, state := ReadinessPart{Status: ReadinessPartStatusOk}, "answers"
		if err := found[name]; err != nil {
			if state = "does not answer"; name == database {
				state = storage.Complaint(err)
			}
			part, ready.Status = ReadinessPart{Status: ReadinessPartStatusAway, Detail: &state}, ReadinessStatusDegraded
		}
		ready.Parts[name] = part
		states = append(states, name+" "+state)
	}
	if found[database] != nil {
		return Readiness{}, fmt.Errorf("%w: %s", errNotReady, strings.Join(states, "; "))
	}
	return ready, nil
}

// logChange logs when a part goes away or comes back, and not at each request, for anybody may ask.
func (s *Server) logChange(ctx context.Context, part string, err error) {
	switch was := s.away[part]; {
	case !was && err != nil:
		s.logger.WarnContext(ctx, "a part is away", "part", part, "error", err)
	case was && err == nil:
		s.logger.InfoContext(ctx, "a part is back", "part", part)
	}
	s.away[part] = err != nil
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
		return fmt.Errorf("%w: %d requests for metrics are under way", errNotReady, maxScrapes)
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
	page, err := s.docs()
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderContentSecurityPolicy, page.policy)
	return c.Blob(http.StatusOK, "text/html; charset=utf-8", page.html)
}
