package main

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// receiver takes webhooks in, verifies every one, and remembers when it came. What
// comes to different paths below /webhook/ is counted apart. What comes to /plain
// is not verified: it is where the limits are measured.
type receiver struct {
	secret *standardwebhooks.Webhook

	mu      sync.Mutex
	inboxes map[string]*inbox
}

// inbox is what came to one path.
type inbox struct {
	events tally // different ones
	seen   map[string]bool
	report inboxReport
}

// inboxReport is what a receiver knows of one path.
type inboxReport struct {
	Events     int   `json:"events"`     // different ones
	Duplicates int   `json:"duplicates"` // of an event that had arrived before
	Unverified int   `json:"unverified"` // whose signature is wrong
	First      int64 `json:"first"`      // arrival, in nanoseconds
	Last       int64 `json:"last"`       // arrival
	// Arrived is when an operation's first event arrived, by the operation's number.
	Arrived map[int64]int64 `json:"arrived,omitempty"`
}

func newReceiver(secret string) (http.Handler, error) {
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	r := &receiver{secret: webhook, inboxes: map[string]*inbox{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /plain", r.plain)
	mux.HandleFunc("POST /webhook/{name}", r.webhook)
	mux.HandleFunc("POST /hangs", func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body) // only then the server notices that the sender gives up
		<-req.Context().Done()
	})
	mux.HandleFunc("POST /fails", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("POST /bench/reset", func(http.ResponseWriter, *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inboxes = map[string]*inbox{}
	})
	mux.HandleFunc("GET /bench/report/{name}", r.tell)
	mux.HandleFunc("GET /bench/count/{name}", r.count)
	mux.HandleFunc("GET /bench/events/{name}/{n}", r.awaitEvents)
	return mux, nil
}

// inbox is that of the name; r.mu is held.
func (r *receiver) inbox(name string) *inbox {
	box, ok := r.inboxes[name]
	if !ok {
		box = &inbox{seen: map[string]bool{}, report: inboxReport{Arrived: map[int64]int64{}}}
		r.inboxes[name] = box
	}
	return box
}

// plain counts an arrival and looks no closer.
func (r *receiver) plain(w http.ResponseWriter, req *http.Request) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.inbox("plain")
	box.stamp(time.Now().UnixNano())
	box.events.add()
	w.WriteHeader(http.StatusNoContent)
}

// webhook verifies and records an arrival.
func (r *receiver) webhook(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	at := time.Now().UnixNano()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	wrong := r.secret.Verify(body, req.Header)
	event := req.Header.Get("Webhook-Id")
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.inbox(req.PathValue("name"))
	box.stamp(at)
	switch {
	case wrong != nil:
		box.report.Unverified++
		w.WriteHeader(http.StatusBadRequest)
		return
	case box.seen[event]:
		box.report.Duplicates++
	default:
		box.seen[event] = true
		if number, ok := operationIn(body); ok {
			box.report.Arrived[number] = at
		}
		box.events.add()
	}
	w.WriteHeader(http.StatusNoContent)
}

// operationIn finds the operation in an event's body: its is the first field that
// is called id and nothing else.
func operationIn(body []byte) (number int64, ok bool) {
	_, after, _ := strings.Cut(string(body), `"id":"`)
	id, _, _ := strings.Cut(after, `"`)
	o, err := parseOperation(id)
	return int64(o.number), err == nil
}

func (b *inbox) stamp(at int64) {
	if b.report.First == 0 {
		b.report.First = at
	}
	b.report.Last = max(b.report.Last, at)
}

func (r *receiver) tell(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.inbox(req.PathValue("name"))
	box.report.Events = box.events.n
	writeJSON(w, box.report)
}

// count is the report without what is known of each operation.
func (r *receiver) count(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.inbox(req.PathValue("name"))
	report := box.report
	report.Events, report.Arrived = box.events.n, nil
	writeJSON(w, report)
}

// awaitEvents answers once so many different events arrived.
func (r *receiver) awaitEvents(w http.ResponseWriter, req *http.Request) {
	n, err := strconv.Atoi(req.PathValue("n"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	reached := r.inbox(req.PathValue("name")).events.reach(n)
	r.mu.Unlock()
	_ = await(req.Context(), reached)
}
