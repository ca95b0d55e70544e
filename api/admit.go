package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

const (
	contentTypeJSON = "application/json"
	maxBody         = 1 << 20
	requestKey      = "request" // of echo.Context's values
)

// request is what admit has found out about a request before its handler runs.
type request struct {
	operation *operation
	key       storage.Key
	body      []byte // as sent; empty if there was none
	tree      any    // what parseJSON keeps of it; nil if there was none
	unnamed   int    // unknown fields that are not in the tree
	turns     turns
}

// requestOf returns what admit put there. Only operations with a scope have it.
func requestOf(c echo.Context) *request {
	r, _ := c.Get(requestKey).(*request)
	return r
}

// admit lets a request through to its handler in the order that the API
// promises: 401, 429, 403, 404 for an id that cannot exist, 415, 413, 400 for what
// is not JSON, 422 for parameters. The body's values are checked by decode,
// together with what only the handler can check.
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
			r := &request{operation: o, key: key, turns: s.turns}
			c.Set(requestKey, r)
			if err := s.gate.charge(c, key); err != nil {
				return err
			}
			if !covers(key.Scopes, o.scope) {
				return &scopeError{needed: o.scope}
			}
			if err := o.checkPath(c); err != nil {
				return err
			}
			if size := c.Request().ContentLength; o.body != nil && (size > smallBody || size < 0) { // below 0 it is not told
				if err := s.large.enter(c.Request().Context(), key.ID); err != nil {
					return err
				}
				defer s.large.leave(key.ID)
			}
			if err := r.readBody(c); err != nil {
				return err
			}
			if err := o.checkParameters(c); err != nil {
				return err
			}
			return next(c)
		}
	}
}

// checkPath answers 404 for an id that does not have an id's form: no such
// thing can exist.
func (o *operation) checkPath(c echo.Context) error {
	for _, p := range o.params {
		if p.Value.In != openapi3.ParameterInPath {
			continue
		}
		if err := p.Value.Schema.Value.VisitJSON(c.Param(p.Value.Name)); err != nil {
			return fmt.Errorf("path parameter %s: %w", p.Value.Name, storage.ErrNotFound)
		}
	}
	return nil
}

// checkParameters checks the query and the headers. A parameter that the
// document does not know is refused like an unknown field: a filter that is
// misspelt would otherwise show everything.
func (o *operation) checkParameters(c echo.Context) error {
	var f faults
	query, err := url.ParseQuery(c.Request().URL.RawQuery)
	if err != nil {
		f.addf("?", "the query is not well-formed: percent-encode what is special")
		return f.err()
	}
	for _, name := range sortedKeys(query) {
		if p := o.params.GetByInAndName(openapi3.ParameterInQuery, name); p == nil {
			f.addf("?"+shorten(name), "is not a parameter of this request%s", oneOf("; known: ", o.queryNames()))
		}
	}
	for _, p := range o.params {
		o.checkParameter(c.Request(), query, p.Value, &f)
	}
	return f.err()
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
		if p.Value.In == openapi3.ParameterInQuery {
			names = append(names, p.Value.Name)
		}
	}
	return names
}

// readBody reads the body of an operation that takes one, at most 1 MiB, and
// parses it.
func (r *request) readBody(c echo.Context) error {
	if r.operation.body == nil {
		return nil
	}
	req := c.Request()
	if r.operation.bodyRequired || req.ContentLength != 0 {
		if err := checkContentType(req.Header); err != nil {
			return err
		}
	}
	if req.ContentLength > maxBody {
		return errTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), req.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case err != nil:
		return &notJSONError{reason: "The body broke off before its end."}
	}
	r.body = body
	if len(body) == 0 && !r.operation.bodyRequired {
		r.tree = map[string]any{}
		return nil
	}
	defer r.turns.take(len(body))()
	r.tree, r.unnamed, err = parseJSON(r.operation.body, body)
	return err
}

func checkContentType(header http.Header) error {
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return errNotJSONType
	}
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || mediaType != contentTypeJSON {
		return errNotJSONType
	}
	return nil
}
