package console

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A page that panics says no more than that, and the log says why.
func TestAPanicIsAPage(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	c := &Console{logger: slog.New(slog.NewTextHandler(&log, nil)), now: time.Now}
	var err error
	if c.assets, err = loadAssets(); err != nil {
		t.Fatal(err)
	}
	c.templates = c.loadTemplates
	c.handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("the cause") })
	got := httptest.NewRecorder()
	c.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
	if page := got.Body.String(); got.Code != http.StatusInternalServerError || !strings.Contains(page, "A fault of the relay") ||
		strings.Contains(page, "the cause") || got.Header().Get("Content-Security-Policy") != policy {
		t.Errorf("%d %v\n%s", got.Code, got.Header(), page)
	}
	if !strings.Contains(log.String(), "the cause") {
		t.Errorf("logged: %s", log.String())
	}
}
