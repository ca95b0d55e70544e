package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// heldBody is a body that waits before its first byte.
type heldBody struct {
	io.Reader

	began func()
	once  sync.Once
}

func (b *heldBody) Read(to []byte) (int, error) {
	b.once.Do(b.began)
	return b.Reader.Read(to)
}

// However many large bodies come slowly, those of others are answered meanwhile, and each in the end.
func TestSlowLargeBodiesHoldUpNobody(t *testing.T) {
	t.Parallel()
	const all = 12
	r := newRelay(t)
	large := `{"watches":[` + strings.Repeat(`{},`, 20000) + `{}]}`
	send := func(key string, body io.Reader) int {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/watches/batch", body)
		request.Header.Set("Authorization", "Bearer "+key)
		request.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		r.server.ServeHTTP(answer, request)
		return answer.Code
	}
	began, release := make(chan struct{}), make(chan struct{})
	statuses := make(chan int, all)
	for range all {
		go func() {
			statuses <- send(r.write, &heldBody{Reader: strings.NewReader(large), began: func() {
				began <- struct{}{}
				<-release
			}})
		}()
	}
	for range all {
		<-began
	}
	for _, key := range []string{r.admin, r.write} {
		if status := send(key, strings.NewReader(large)); status != http.StatusUnprocessableEntity {
			t.Errorf("a large one is answered %d", status)
		}
		if status := send(key, strings.NewReader(`{"watches":[]}`)); status != http.StatusUnprocessableEntity {
			t.Errorf("a small one is answered %d", status)
		}
	}
	close(release)
	for range all {
		if status := <-statuses; status != http.StatusUnprocessableEntity {
			t.Errorf("answered %d", status)
		}
	}
}
