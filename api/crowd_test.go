package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
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

// Of one key's large bodies four are read at once, and it holds up nobody but itself with them.
func TestAKeyHoldsUpItsOwnLargeBodies(t *testing.T) {
	t.Parallel()
	const most, all = 4, 12
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
	var inside, peak atomic.Int64
	statuses := make(chan int, all)
	for range all {
		go func() {
			statuses <- send(r.write, &heldBody{Reader: strings.NewReader(large), began: func() {
				if now := inside.Add(1); now > most {
					peak.Store(now)
				}
				began <- struct{}{}
				<-release
				inside.Add(-1)
			}})
		}()
	}
	for range most {
		<-began
	}
	if status := send(r.admin, strings.NewReader(large)); status != http.StatusUnprocessableEntity {
		t.Errorf("another key's is answered %d", status)
	}
	if status := send(r.write, strings.NewReader(`{"watches":[]}`)); status != http.StatusUnprocessableEntity {
		t.Errorf("a small one is answered %d", status)
	}
	for range all - most {
		release <- struct{}{}
		<-began
	}
	for range most {
		release <- struct{}{}
	}
	for range all {
		if status := <-statuses; status != http.StatusUnprocessableEntity {
			t.Errorf("answered %d", status)
		}
	}
	if now := peak.Load(); now > most {
		t.Errorf("%d are read at once", now)
	}
}
