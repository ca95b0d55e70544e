package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

const requestKey = "request" // of echo.Context's values

// request is what admit has found out about a request before its handler runs.
type request struct {
	operation *operation
	key       storage.Key
	body      []byte // as sent; empty if there was none
	tree      any    // what validate leaves of it; nil if there was none
	faults    faults // what the document refuses about it
}

// requestOf returns what admit put there. Only operations with a scope have it.
func requestOf(c echo.Context) *request {
	r, _ := c.Get(requestKey).(*request)
	return r
}

// admit lets a request through to its handler, or refuses it in this order: 401, 429, 403, 404 for an id that
// cannot exist, 422 for parameters, 415, 413, 400 for what is not JSON. What the document refuses about the
// body's values is told by decode, together with what only the handler can find.
func (s *Server) admit(o *operation) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			key, err := s.authenticate(c)
			if err != nil {
				if c.Request().ContentLength != 0 {
					// Else net/http waits for the body before it answers.
					c.Response().Header().Set(echo.HeaderConnection, "close")
				}
				return err
			}
			r := &request{operation: o, key: key}
			c.Set(requestKey, r)
			defer func() { r.body, r.tree = nil, nil }() // echo keeps its contexts, and so the request
			if err := s.charge(c, key); err != nil {
				return err
			}
			if !key.May(o.scope) {
				return &scopeError{needed: o.scope}
			}
			if err := o.checkParameters(c); err != nil {
				return err
			}
			if err := s.readBody(c, r); err != nil {
				return err
			}
			return next(c)
		}
	}
}

// authenticate finds the key that the request carries (RFC 6750, section 2.1). A wrong one is counted against
// the client's address, but looked up first: whoever shares an address with an abuser must not be locked out.
func (s *Server) authenticate(c echo.Context) (storage.Key, error) {
	if key, ok := keyInside(c.Request().Context()); ok {
		return key, nil
	}
	headers := c.Request().Header.Values(echo.HeaderAuthorization)
	if len(headers) != 1 {
		return storage.Key{}, &unauthorizedError{}
	}
	scheme, presented, _ := strings.Cut(headers[0], " ")
	presented = strings.TrimSpace(presented)
	if !strings.EqualFold(scheme, "Bearer") || presented == "" {
		return storage.Key{}, &unauthorizedError{}
	}
	ctx := c.Request().Context()
	key, err := s.store.Authenticate(ctx, presented)
	if !errors.Is(err, storage.ErrNotFound) {
		return key, err
	}
	if s.wrongKeyLimit != nil {
		client := network(c.RealIP())
		if left := s.wrongKeyLimit.Take(ctx, client); !left.Allowed {
			return storage.Key{}, &limitedError{kind: problemWrongKeys, who: client, retry: left.Retry}
		}
	}
	return storage.Key{}, &unauthorizedError{presented: true}
}

// checkParameters checks the path, the query and the headers. An id that cannot be one is 404: no such thing
// can exist. A parameter that the document does not know is refused like an unknown field: a filter that is
// misspelt would otherwise show everything.
func (o *operation) checkParameters(c echo.Context) error {
	var f faults
	for _, p := range o.params {
		if p.Value.In == openapi3.ParameterInPath && p.Value.Schema.Value.VisitJSON(c.Param(p.Value.Name)) != nil {
			return fmt.Errorf("path parameter %s: %w", p.Value.Name, storage.ErrNotFound)
		}
	}
	query, err := url.ParseQuery(c.Request().URL.RawQuery)
	if err != nil {
		f.addf("?", "the query is not well-formed: percent-encode what is special")
		return f.err()
	}
	for _, name := range sortedKeys(query) {
		if !o.knows(name) {
			f.addf("?"+shorten(name), "is not a parameter of this request%s", oneOf("; known: ", o.queryNames()))
		}
		f.refuse(!utf8.ValidString(strings.Join(query[name], "")), "?"+shorten(name), "must be UTF-8")
	}
	for _, p := range o.params {
		if p.Value.Style == openapi3.SerializationDeepObject {
			o.checkDeepObject(query, p.Value, &f)
		} else {
			o.checkParameter(c.Request(), query, p.Value, &f)
		}
	}
	return f.err()
}

// knows says whether there is a query parameter of this name, or one of which it is a part.
func (o *operation) knows(name string) bool {
	return slices.ContainsFunc(o.params, func(p *openapi3.ParameterRef) bool {
		return p.Value.In == openapi3.ParameterInQuery && (p.Value.Name == name || isPart(p.Value, name))
	})
}

// isPart says whether a name is that of a part of a parameter: metadata[deploy] of metadata.
func isPart(p *openapi3.Parameter, name string) bool {
	return p.Style == openapi3.SerializationDeepObject && strings.HasPrefix(name, p.Name+"[") && strings.HasSuffix(name, "]")
}

// checkDeepObject checks a parameter whose parts come one by one. The style has no way to write a key with
// brackets in it.
func (o *operation) checkDeepObject(query url.Values, p *openapi3.Parameter, f *faults) {
	f.refuse(query.Has(p.Name), "?"+p.Name, "must be written with a key: "+p.Name+"[KEY]=VALUE")
	object := make(map[string]any)
	for _, name := range sortedKeys(query) {
		if !isPart(p, name) {
			continue
		}
		key, pointer := name[len(p.Name)+1:len(name)-1], "?"+shorten(name)
		f.refuse(key == "" || strings.ContainsAny(key, "[]"), pointer, "must have a key in its brackets, without further brackets")
		if len(query[name]) > 1 {
			f.addf(pointer, "is given %d times; give it once", len(query[name]))
		}
		object[key] = query.Get(name)
	}
	if err := p.Schema.Value.VisitJSON(object, o.options...); err != nil {
		f.addParameter("?"+p.Name, p.Schema.Value, err)
	}
}

func (o *operation) checkParameter(r *http.Request, query url.Values, p *openapi3.Parameter, f *faults) {
	var values []string
	var pointer string
	switch p.In {
	case openapi3.ParameterInQuery:
		values, pointer = query[p.Name], "?"+p.Name
	case openapi3.ParameterInHeader:
		values, pointer = r.Header.Values(p.Name), p.Name+":"
	default:
		return
	}
	if len(values) > 1 {
		f.addf(pointer, "is given %d times; give it once", len(values))
		return
	}
	if p.Schema.Value.Format == "date-time" { // which the library takes some of that are none
		if len(values) == 1 {
			f.addParameter(pointer, p.Schema.Value, p.Schema.Value.VisitJSON(values[0], o.options...))
		}
		return
	}
	err := openapi3filter.ValidateParameter(r.Context(), &openapi3filter.RequestValidationInput{
		Request:     r,
		QueryParams: query,
		Route:       o.route,
		Options:     &openapi3filter.Options{MultiError: true, SkipSettingDefaults: true},
	}, p)
	if err == nil {
		return
	}
	var invalid *openapi3filter.RequestError
	if errors.As(err, &invalid) && invalid.Err != nil {
		err = invalid.Err
	}
	f.addParameter(pointer, p.Schema.Value, err)
}

func (o *operation) queryNames() []string {
	var names []string
	for _, p := range o.params {
		switch {
		case p.Value.In != openapi3.ParameterInQuery:
		case p.Value.Style == openapi3.SerializationDeepObject:
			names = append(names, p.Value.Name+"[KEY]")
		default:
			names = append(names, p.Value.Name)
		}
	}
	return names
}

// unauthorizedError says that no valid key came with a request.
type unauthorizedError struct {
	presented bool // a key came, but it is unknown or revoked
}

func (e *unauthorizedError) Error() string { return "no valid API key" }

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

// scopeError says that the key does not reach as far as the operation needs.
type scopeError struct {
	needed storage.Scope
}

func (e *scopeError) Error() string { return "the API key lacks the scope " + string(e.needed) }

func (e *scopeError) detail() string {
	return "This needs a key with the scope " + string(e.needed) + "."
}

func (e *scopeError) challenge() string {
	return `Bearer realm="oprelay", error="insufficient_scope", scope="` + string(e.needed) + `"`
}
