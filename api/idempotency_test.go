package api_test

import (
	"bytes"
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"oprelay/api"
	"oprelay/storage"
)

func key(value string) change { return withHeader("Idempotency-Key", value) }

// gate is an egress check that lets a request wait until the test says so.
type gate struct {
	entered chan struct{}
	open    chan struct{}
}

func (g *gate) CheckURL(ctx context.Context, _ string) error {
	select {
	case g.entered <- struct{}{}:
	case <-ctx.Done():
	}
	select {
	case <-g.open:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func TestARepeatedRequestGetsItsFirstAnswer(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	credentialID, destinationID := r.credential(r.write), r.webhook(r.write)
	posts := []struct {
		path, body string
		status     int
	}{
		{"/v1/credentials", `{"name":"x","api_token":"t"}`, http.StatusCreated},
		{"/v1/destinations", `{"type":"webhook","name":"x","url":"` + publicURL + `"}`, http.StatusCreated},
		{"/v1/watches", watchBody(credentialID, destinationID), http.StatusCreated},
		{"/v1/watches/batch", `{"watches":[` + watchBody(credentialID, destinationID) + `]}`, http.StatusCreated},
		{"/v1/keys", `{"name":"x","scopes":["read"]}`, http.StatusCreated},
		{"/v1/destinations/" + destinationID + "/test", "", http.StatusAccepted},
		{"/v1/destinations/" + destinationID + "/rotate-secret", "", http.StatusOK},
		{"/v1/destinations/" + destinationID + "/disable", "", http.StatusOK},
		{"/v1/destinations/" + destinationID + "/enable", "{}", http.StatusOK},
		{"/v1/destinations/" + destinationID + "/recover", `{"since":"2020-01-01T00:00:00Z"}`, http.StatusAccepted},
	}
	for _, post := range posts {
		t.Run(post.path, func(t *testing.T) {
			first := r.do(r.admin, http.MethodPost, post.path, post.body, key(post.path))
			rows := r.rows()
			again := r.do(r.admin, http.MethodPost, post.path, post.body, key(post.path))
			if first.status != post.status || again.status != post.status || !bytes.Equal(first.body, again.body) {
				t.Fatalf("first %d %s, then %d %s", first.status, first.body, again.status, again.body)
			}
			if first.header.Get("Idempotency-Replayed") != "" || again.header.Get("Idempotency-Replayed") != "true" {
				t.Error("Idempotency-Replayed belongs to the second answer, and to it alone")
			}
			if first.header.Get("Location") != again.header.Get("Location") {
				t.Error("the second answer has another Location")
			}
			if after := r.rows(); after["/v1/watches"] != rows["/v1/watches"] || after["/v1/keys"] != rows["/v1/keys"] {
				t.Errorf("done twice: %v, then %v", rows, after)
			}
		})
	}
	t.Run("also when what it refers to is gone", func(t *testing.T) {
		r.do(r.admin, http.MethodDelete, "/v1/destinations/"+destinationID, "")
		again := r.do(r.admin, http.MethodPost, "/v1/watches", watchBody(credentialID, destinationID), key("/v1/watches"))
		if again.status != http.StatusCreated {
			t.Errorf("%d %s", again.status, again.body)
		}
	})
}

// A recovery is as many transactions as it needs, and its answer is kept with the last.
func TestARecoveryIsManyTransactions(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	path := "/v1/destinations/" + r.webhook(r.write)
	for range 5 {
		r.do(r.write, http.MethodPost, path+"/test", "")
	}
	var commits atomic.Int32
	r.store.SetOnDue(func([]storage.Group) { commits.Add(1) })
	for range 2 {
		answer := r.do(r.write, http.MethodPost, path+"/recover", `{"since":"2020-01-01T00:00:00Z"}`, key("k"))
		if answer.status != http.StatusAccepted || string(answer.body) != `{"count":5}`+"\n" || commits.Load() != 3 {
			t.Errorf("%d %s after %d commits, want 3", answer.status, answer.body, commits.Load())
		}
	}
}

// However long it takes: who repeats it meanwhile does not begin another beside it.
func TestALongRecoveryKeepsItsKey(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	path := "/v1/destinations/" + r.webhook(r.write)
	for range 7 {
		r.do(r.write, http.MethodPost, path+"/test", "")
	}
	recovered := func() int {
		answer, err := r.try(t.Context(), r.write, http.MethodPost, path+"/recover", `{"since":"2020-01-01T00:00:00Z"}`, key("k"))
		if err != nil {
			t.Error(err)
		}
		return answer.status
	}
	var commits atomic.Int32
	var meanwhile atomic.Int32
	r.store.SetOnDue(func([]storage.Group) {
		r.clock.advance(8 * time.Second)
		if commits.Add(1) == 3 {
			meanwhile.Store(int32(recovered()))
		}
	})
	if status := recovered(); status != http.StatusAccepted || meanwhile.Load() != http.StatusConflict || commits.Load() != 4 {
		t.Errorf("%d after %d commits, and %d meanwhile; want 202 after 4, and 409", status, commits.Load(), meanwhile.Load())
	}
}

func TestAnIdempotencyKeyBelongsToOneRequest(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, other := r.otherTenant()
	const body = `{"name":"x","api_token":"t"}`
	r.do(r.write, http.MethodPost, "/v1/credentials", body, key("k"))
	mismatch := r.do(r.write, http.MethodPost, "/v1/credentials", `{"name":"y","api_token":"t"}`, key("k"))
	if mismatch.status != http.StatusUnprocessableEntity || mismatch.problem.Type != "/docs#problem-reused-key" {
		t.Errorf("another body: %d %s", mismatch.status, mismatch.body)
	}
	path := r.do(r.admin, http.MethodPost, "/v1/keys", `{"name":"x","scopes":["read"]}`, key("k"))
	if path.status != http.StatusUnprocessableEntity {
		t.Errorf("another path: %d", path.status)
	}
	theirs := r.do(other, http.MethodPost, "/v1/credentials", body, key("k"))
	if theirs.status != http.StatusCreated || theirs.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("another tenant's request with the same key: %d %s", theirs.status, theirs.body)
	}
}

func TestARefusedRequestMayBeCorrected(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	refused := r.do(r.write, http.MethodPost, "/v1/credentials", `{"name":"x"}`, key("k"))
	if refused.status != http.StatusUnprocessableEntity {
		t.Fatalf("refused: %d", refused.status)
	}
	corrected := r.do(r.write, http.MethodPost, "/v1/credentials", `{"name":"x","api_token":"t"}`, key("k"))
	if corrected.status != http.StatusCreated {
		t.Errorf("corrected, with the same key: %d %s", corrected.status, corrected.body)
	}
	missing := "/v1/destinations/destination_01jd8p5kzve6wbdq8rfg0m3c7x/enable"
	for range 2 { // what fails in its transaction leaves nothing either
		if answer := r.do(r.write, http.MethodPost, missing, "", key("e")); answer.status != http.StatusNotFound {
			t.Errorf("missing: %d %s", answer.status, answer.body)
		}
	}
}

func TestTheSecondOfTwoAtOnceWaits(t *testing.T) {
	t.Parallel()
	g := &gate{entered: make(chan struct{}), open: make(chan struct{})}
	r := newRelay(t, func(c *api.Config) { c.Egress = g })
	const body = `{"type":"webhook","name":"x","url":"` + publicURL + `"}`
	type result struct {
		answer reply
		err    error
	}
	first := make(chan result, 1)
	go func() {
		answer, err := r.try(t.Context(), r.write, http.MethodPost, "/v1/destinations", body, key("k"))
		first <- result{answer, err}
	}()
	<-g.entered
	second := r.do(r.write, http.MethodPost, "/v1/destinations", body, key("k"))
	if second.status != http.StatusConflict || second.header.Get("Retry-After") == "" {
		t.Errorf("while the first runs: %d %s", second.status, second.body)
	}
	close(g.open)
	done := <-first
	must(t, done.err)
	third := r.do(r.write, http.MethodPost, "/v1/destinations", body, key("k"))
	if third.status != http.StatusCreated || !bytes.Equal(third.body, done.answer.body) {
		t.Errorf("after the first: %d %s", third.status, third.body)
	}
}

func TestAClientThatHangsUpLeavesNoReservation(t *testing.T) {
	t.Parallel()
	g := &gate{entered: make(chan struct{}), open: make(chan struct{})}
	r := newRelay(t, func(c *api.Config) { c.Egress = g })
	const body = `{"type":"webhook","name":"x","url":"` + publicURL + `"}`
	ctx, hangUp := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = r.try(ctx, r.write, http.MethodPost, "/v1/destinations", body, key("k"))
	}()
	<-g.entered
	hangUp()
	<-gone
	close(g.open)
	go func() { // the repeated request passes the gate too
		select {
		case <-g.entered:
		case <-t.Context().Done():
		}
	}()
	patience, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for { // until the server has noticed
		answer, err := r.try(patience, r.write, http.MethodPost, "/v1/destinations", body, key("k"))
		must(t, err)
		if answer.status == http.StatusCreated {
			return
		}
		if answer.status != http.StatusConflict {
			t.Fatalf("%d %s", answer.status, answer.body)
		}
	}
}

// A request whose process was killed can be repeated seconds later. Should it live
// after all, only one of the two is kept.
func TestAnAbandonedRequestIsTakenOver(t *testing.T) {
	t.Parallel()
	g := &gate{entered: make(chan struct{}), open: make(chan struct{})}
	r := newRelay(t, func(c *api.Config) { c.Egress = g })
	before := r.rows()
	const body = `{"type":"webhook","name":"x","url":"` + publicURL + `"}`
	statuses := make(chan int, 2)
	post := func() {
		answer, err := r.try(t.Context(), r.write, http.MethodPost, "/v1/destinations", body, key("k"))
		if err != nil {
			t.Error(err)
		}
		statuses <- answer.status
	}
	go post()
	<-g.entered
	r.clock.advance(12 * time.Second)
	go post()
	select {
	case <-g.entered:
	case status := <-statuses:
		t.Fatalf("the second is answered %d, and does not take over", status)
	}
	close(g.open)
	first, second := <-statuses, <-statuses
	if min(first, second) != http.StatusCreated || max(first, second) != http.StatusConflict {
		t.Errorf("answered %d and %d, want one 201 and one 409", first, second)
	}
	if n := r.rows()["/v1/destinations"] - before["/v1/destinations"]; n != 1 {
		t.Errorf("%d destinations were stored, want 1", n)
	}
	again := r.do(r.write, http.MethodPost, "/v1/destinations", body, key("k"))
	if again.status != http.StatusCreated || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("repeated: %d %s", again.status, again.body)
	}
}
