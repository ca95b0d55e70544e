package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
)

func traceContextOf(tb testing.TB, traceparents ...string) (*Server, echo.Context) {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/v1/watches", nil)
	for _, traceparent := range traceparents {
		r.Header.Add("Traceparent", traceparent)
	}
	r.Header.Set("Tracestate", strings.Repeat("vendor=secret,", 1000))
	c := echo.New().NewContext(r, httptest.NewRecorder())
	c.SetPath("/v1/watches")
	return &Server{}, c
}

// Without traces a request costs nothing that it did not cost before.
func TestRequestWithoutTracesCostsNothing(t *testing.T) { // AllocsPerRun refuses parallel tests
	s, c := traceContextOf(t)
	allocations := testing.AllocsPerRun(100, func() {
		s.beginSpan(c).end(c, nil)
		_ = traceparentOf(c.Request().Context())
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

func TestTraceparentOfARequest(t *testing.T) {
	t.Parallel()
	const valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, c := range map[string]struct {
		sent []string
		want string
	}{
		"none":      {nil, ""},
		"one":       {[]string{valid}, valid},
		"two":       {[]string{valid, valid}, ""},
		"joined":    {[]string{valid + "," + valid}, ""},
		"empty":     {[]string{""}, ""},
		"no trace":  {[]string{"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01"}, ""},
		"uppercase": {[]string{strings.ToUpper(valid)}, ""},
		"version":   {[]string{"ff" + valid[2:]}, ""},
		"later":     {[]string{"01" + valid[2:] + "-" + strings.Repeat("x", 10_000)}, valid},
	} {
		s, request := traceContextOf(t, c.sent...)
		s.beginSpan(request).end(request, nil)
		if got := traceparentOf(request.Request().Context()); got != c.want {
			t.Errorf("%s: a watch would keep %q, want %q", name, got, c.want)
		}
	}
}

func BenchmarkRequestWithoutTraces(b *testing.B) {
	s, c := traceContextOf(b)
	b.ReportAllocs()
	for b.Loop() {
		s.beginSpan(c).end(c, nil)
	}
}
