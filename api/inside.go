package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

// anyPath is the route of what is mounted.
const anyPath = "/*"

// insideKey is where the context of a request from inside the process has its API key.
type insideKey struct{}

// WithKey is the context of a request that the process makes of its own API with a key that it
// has checked already. The request needs no Authorization header, everything else holds for
// it: limits, scopes, the tenant. No client can send a context.
func WithKey(ctx context.Context, key storage.Key) context.Context {
	return context.WithValue(ctx, insideKey{}, key)
}

// keyInside is the key of a request from inside.
func keyInside(ctx context.Context) (storage.Key, bool) {
	key, ok := ctx.Value(insideKey{}).(storage.Key)
	return key, ok
}

// inside says whether the request is from inside.
func inside(c echo.Context) bool {
	_, is := keyInside(c.Request().Context())
	return is
}

// Mount has the handler answer every path that is not the API's. Its requests are named,
// logged and counted like the API's, by the pattern that it leaves in the request. Call it
// before the first request.
func (s *Server) Mount(handler http.Handler) { s.mounted = handler }

// orMounted has what is mounted answer where the API has no such path.
func (s *Server) orMounted(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		isOurs := c.Path() != "" || strings.HasPrefix(c.Request().URL.Path, "/v1/")
		if s.mounted == nil || isOurs || !errors.Is(err, echo.ErrNotFound) {
			return err
		}
		c.SetPath(anyPath)
		s.mounted.ServeHTTP(c.Response(), c.Request())
		return nil
	}
}
