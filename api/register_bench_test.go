package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
)

// BenchmarkDecode is what a registration costs before it reaches the store:
// reading its body, checking it against the document, and making watches of it.
func BenchmarkDecode(b *testing.B) {
	document, err := loadDocument()
	if err != nil {
		b.Fatal(err)
	}
	s := &Server{validating: make(chan struct{}, maxValidating)}
	one := func(i int) string {
		return fmt.Sprintf(`{"operation_id":"4da8780eeb215e6cb7f48dd981c4%04x","account_id":"023e105f4ecef8ad9ca31a8372d0c353",
			"credential_id":"credential_01jd8p5kzve6wbdq8rfg0m3c7x","destination_ids":["destination_01jd8p5kzve6wbdq8rfg0m3c7x"],
			"metadata":{"deploy":"42"}}`, i)
	}
	many := make([]string, 1000)
	for i := range many {
		many[i] = one(i)
	}
	for _, body := range []struct {
		name, operation, text string
		into                  any
	}{
		{"one", "createWatch", one(0), &NewWatch{}},
		{"batch", "createWatches", `{"watches":[` + strings.Join(many, ",") + `]}`, &NewWatches{}},
	} {
		b.Run(body.name, func(b *testing.B) {
			b.ReportAllocs()
			operation := document.operations[body.operation]
			for b.Loop() {
				sent := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/", strings.NewReader(body.text))
				sent.Header.Set(echo.HeaderContentType, contentTypeJSON)
				r := &request{operation: operation}
				if err := s.readBody(echo.New().NewContext(sent, httptest.NewRecorder()), r); err != nil {
					b.Fatal(err)
				}
				if err := r.decode(body.into).err(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
