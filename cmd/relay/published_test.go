package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
)

// published is the document that Cloudflare published of the endpoint. It
// contradicts itself: the result is an array and an object at once, and an error
// has success true and false at once.
const published = "testdata/cloudflare-lists-get-bulk-operation-status.openapi.json"

// exampleOperation is the id in the document's own examples.
const exampleOperation = "4da8780eeb215e6cb7f48dd981c4ea02"

// A mock server made of the published document answers what the document allows.
// Whatever that is, the relay lives on, and a watch ends only as an answer says.
func TestTheDocumentAsPublished(t *testing.T) {
	t.Parallel()
	tap := newTap(t, testenv.Prism(t, published))
	s := startEmbedded(t, newSurroundings(t), "RELAY_CLOUDFLARE_URL", tap.url, "RELAY_POLL_MIN", "100ms", "RELAY_POLL_MAX", "200ms")
	destination := s.webhook(t)
	const goesOn, ends = client.WatchStatusWatching, client.WatchStatusUnobservable
	t.Run("answers", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			prefer string // which of the document's answers Prism is to give
			id     string
			token  bool // sign with a token, a scheme that the document does not know
			polls  int  // that the watch has to outlive
			status client.WatchStatus
		}{
			{name: "the example, asked about the operation in it", id: exampleOperation, polls: 10, status: goesOn},
			{name: "the example, asked about another operation", id: newOperationID(), polls: 5, status: goesOn},
			{name: "made up from the schema", prefer: "dynamic=true", id: exampleOperation, polls: 10, status: goesOn},
			{name: "401 to a scheme that the document does not know", token: true, id: exampleOperation, polls: 2, status: ends},
			{name: "403", prefer: "code=403", id: exampleOperation, polls: 2, status: ends},
			{name: "404", prefer: "code=404", id: exampleOperation, polls: 2, status: ends},
			{name: "404 made up from the schema", prefer: "code=404, dynamic=true", id: exampleOperation, polls: 2, status: ends},
			{name: "429", prefer: "code=429", id: exampleOperation, polls: 1, status: goesOn},
			{name: "400", prefer: "code=400", id: exampleOperation, polls: 5, status: goesOn},
			{name: "418 made up from the schema", prefer: "code=418, dynamic=true", id: exampleOperation, polls: 5, status: goesOn},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				credential, signer := s.documented(t, c.token)
				tap.prefer(signer, c.prefer)
				w := s.watch(t, client.NewWatch{OperationID: c.id, CredentialID: credential, DestinationIds: []string{destination}})
				if c.status == ends {
					w = s.end(t, w.ID, startLimit)
				}
				eventually(t, startLimit, "the answers are polled", func() bool {
					w = s.look(t, w.ID)
					return w.Polls >= c.polls
				})
				if w.Status != c.status {
					t.Errorf("the watch is %s, want %s", w.Status, c.status)
				}
				checkSupported(t, w, tap.answers(signer))
			})
		}
	})
	s.server.Stop()
}

// documented is a credential of the scheme that the document knows, or a token,
// and what its requests are told apart by.
func (s *system) documented(t *testing.T, token bool) (id, signer string) {
	t.Helper()
	signer = newOperationID()
	if token {
		return s.credential(t, signer), "Bearer " + signer
	}
	made, err := s.api.CreateCredentialWithResponse(t.Context(), nil, client.NewCredential{
		Name: "documented", Email: new(signer + "@example.com"), APIKey: new("144c9defac04969c7bfad8efaa8ea194"),
	})
	want(t, http.StatusCreated, err, made)
	return made.JSON201.ID, signer + "@example.com"
}

// checkSupported holds the watch against the answers as they were on the wire,
// read here on their own.
func checkSupported(t *testing.T, w client.Watch, answers []rawAnswer) {
	t.Helper()
	if len(answers) < w.Polls {
		t.Fatalf("%d answers for %d polls", len(answers), w.Polls)
	}
	told := map[string]bool{} // what is said about this operation, by an answer that may be believed
	refused := 0
	for _, a := range answers {
		if status := a.says(w.Operation.ID); status != "" {
			told[status] = true
		}
		if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden || a.status == http.StatusNotFound {
			refused++
		}
	}
	if seen := w.Operation.Status; seen != nil && !told[string(*seen)] {
		t.Errorf("the operation is shown as %s, which no answer says: %s", *seen, answers[0].body)
	}
	if told["pending"] && w.Operation.Status == nil {
		t.Errorf("the operation's status is unknown, but it was answered: %s", answers[0].body)
	}
	switch w.Status {
	case client.WatchStatusCompleted, client.WatchStatusFailed:
		if !told[string(w.Status)] {
			t.Errorf("the watch ended as %s, which no answer says", w.Status)
		}
	case client.WatchStatusUnobservable:
		if refused == 0 || len(told) > 0 {
			t.Errorf("the watch is unobservable after %d refusals, and answers that say %v", refused, told)
		}
	case client.WatchStatusWatching:
		if told["completed"] || told["failed"] {
			t.Errorf("the watch goes on, but the answers say %v", told)
		}
		if len(told) == 0 && w.LastPollError == nil {
			t.Error("no answer says anything, and the watch does not say so")
		}
	case client.WatchStatusExpired, client.WatchStatusCanceled:
		t.Errorf("the watch is %s", w.Status)
	}
}

// rawAnswer is an answer of the mock server.
type rawAnswer struct {
	status int
	body   []byte
}

// says is the status of the operation by this answer, "" if it says none.
func (a rawAnswer) says(operationID string) string {
	var envelope struct {
		Success bool
		Result  json.RawMessage
	}
	var result struct{ ID, Status string }
	if a.status != http.StatusOK || json.Unmarshal(a.body, &envelope) != nil || !envelope.Success {
		return ""
	}
	if json.Unmarshal(envelope.Result, &result) != nil || result.ID != operationID {
		return "" // an array, or about another operation
	}
	return result.Status
}

// tap is a proxy before the mock server. It tells it which answer to give, which
// the relay cannot, and keeps the answers, each by who signed the request.
type tap struct {
	url     string
	mu      sync.Mutex
	prefers map[string]string
	seen    map[string][]rawAnswer
}

func newTap(t *testing.T, target string) *tap {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	tapped := &tap{prefers: map[string]string{}, seen: map[string][]rawAnswer{}}
	tapped.url = serve(t, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			tapped.mu.Lock()
			defer tapped.mu.Unlock()
			if prefer := tapped.prefers[signerOf(r.In)]; prefer != "" {
				r.Out.Header.Set("Prefer", prefer)
			}
		},
		ModifyResponse: tapped.keep,
	})
	return tapped
}

func signerOf(r *http.Request) string {
	return r.Header.Get("X-Auth-Email") + r.Header.Get("Authorization")
}

func (p *tap) prefer(signer, answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prefers[signer] = answer
}

func (p *tap) keep(r *http.Response) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.mu.Lock()
	defer p.mu.Unlock()
	signer := signerOf(r.Request)
	p.seen[signer] = append(p.seen[signer], rawAnswer{r.StatusCode, body})
	return nil
}

func (p *tap) answers(signer string) []rawAnswer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen[signer])
}
