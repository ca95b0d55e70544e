package api_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// checker is a transport that holds every answer to the document: status,
// headers, content type and body. So each test is also a test of the document.
type checker struct {
	next   http.RoundTripper
	router routers.Router
}

func readDocument(t testing.TB) *openapi3.T {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	must(t, err)
	must(t, document.Validate(t.Context()))
	return document
}

func newChecker(t testing.TB) *checker {
	t.Helper()
	document := readDocument(t)
	document.Servers = nil // any host
	router, err := legacy.NewRouter(document)
	must(t, err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &checker{next: transport, router: router}
}

func (c *checker) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	var body []byte
	if response.Header.Get("Content-Type") != "text/event-stream" { // which has no end
		body, err = io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return nil, err
		}
		response.Body = io.NopCloser(bytes.NewReader(body))
	}
	problem := response.Header.Get("Content-Type") == "application/problem+json"
	if failed := response.StatusCode >= http.StatusBadRequest; failed != problem {
		return nil, fmt.Errorf("%s %s: status %d as %q", r.Method, r.URL.Path, response.StatusCode, response.Header.Get("Content-Type"))
	}
	route, params, err := c.router.FindRoute(r)
	unknown := err != nil || strings.HasSuffix(r.URL.Path, "/") // which the router takes for the path without
	if unknown || strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") {
		return response, nil // only a problem can come of it, which is checked above
	}
	err = openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 response.StatusCode,
		Header:                 response.Header,
		Body:                   io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, MultiError: true,
			ExcludeResponseBody: !strings.Contains(response.Header.Get("Content-Type"), "json"), // the others are text
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s %s answers %d against the document: %w\n%s", r.Method, r.URL.Path, response.StatusCode, err, body)
	}
	return response, nil
}
