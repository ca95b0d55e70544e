package api

import (
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

// unauthorizedError says that no valid key came with a request.
type unauthorizedError struct {
	presented bool // a key came, but it is unknown or revoked
}

func (e *unauthorizedError) Error() string { return "no valid API key" }

// scopeError says that the key does not reach as far as the operation needs.
type scopeError struct {
	needed storage.Scope
}

func (e *scopeError) Error() string { return "the API key lacks the scope " + string(e.needed) }

// authenticate finds the key that the request carries (RFC 6750, section 2.1).
func (s *Server) authenticate(c echo.Context) (storage.Key, error) {
	headers := c.Request().Header.Values(echo.HeaderAuthorization)
	if len(headers) != 1 {
		return storage.Key{}, &unauthorizedError{}
	}
	scheme, presented, _ := strings.Cut(headers[0], " ")
	presented = strings.TrimSpace(presented)
	if !strings.EqualFold(scheme, "Bearer") || presented == "" {
		return storage.Key{}, &unauthorizedError{}
	}
	return s.gate.authenticate(c, presented, s.store.Authenticate)
}

// covers says whether the scopes of a key reach the one that is needed: write
// includes read, admin everything.
func covers(scopes []storage.Scope, needed storage.Scope) bool {
	order := []storage.Scope{storage.ScopeRead, storage.ScopeWrite, storage.ScopeAdmin}
	for _, scope := range scopes {
		if at := slices.Index(order, scope); at >= 0 && at >= slices.Index(order, needed) {
			return true
		}
	}
	return false
}

func (e *unauthorizedError) detail() string {
	if e.presented {
		return "This API key is unknown or revoked."
	}
	return problemUnauthorized.detail
}

// challenge is the WWW-Authenticate header of RFC 6750, section 3.
func (e *unauthorizedError) challenge() string {
	if e.presented {
		return `Bearer realm="oprelay", error="invalid_token"`
	}
	return `Bearer realm="oprelay"`
}

func (e *scopeError) detail() string {
	return "This needs a key with the scope " + string(e.needed) + "."
}

func (e *scopeError) challenge() string {
	return `Bearer realm="oprelay", error="insufficient_scope", scope="` + string(e.needed) + `"`
}
