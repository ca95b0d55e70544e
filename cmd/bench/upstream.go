package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// upstream stands in for Cloudflare's status endpoint. It is lighter than `relay
// simulate`, so that what is measured is the relay: an id says when its operation
// ends, and all that is remembered is who asked and when the end was told.
type upstream struct {
	released atomic.Bool

	mu      sync.Mutex
	answers int64
	asked   tally             // operations asked about
	known   map[int64]moments // by operation
}

// moments are when an operation was first asked about, and when its end was told
// first, 0 if it was not; in nanoseconds.
type moments struct{ asked, told int64 }

// upstreamReport is what the upstream knows.
type upstreamReport struct {
	Answers    int64 `json:"answers"`
	Operations int   `json:"operations"` // that were asked about
	// Asked is when an operation was first asked about, and Told when the terminal
	// answer left, in nanoseconds, by the operation's number.
	Asked map[int64]int64 `json:"asked,omitempty"`
	Told  map[int64]int64 `json:"told,omitempty"`
}

func newUpstream() http.Handler {
	u := &upstream{known: map[int64]moments{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /client/v4/accounts/{account}/rules/lists/bulk_operations/{id}", u.answer)
	mux.HandleFunc("POST /bench/reset", u.reset)
	mux.HandleFunc("POST /bench/release", func(http.ResponseWriter, *http.Request) { u.released.Store(true) })
	mux.HandleFunc("GET /bench/count", func(w http.ResponseWriter, _ *http.Request) {
		u.mu.Lock()
		defer u.mu.Unlock()
		writeJSON(w, u.count())
	})
	mux.HandleFunc("GET /bench/report", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, u.report()) })
	mux.HandleFunc("GET /bench/asked/{n}", u.awaitAsked)
	return mux
}

func (u *upstream) reset(http.ResponseWriter, *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.released.Store(false)
	u.answers, u.asked, u.known = 0, tally{}, map[int64]moments{}
}

// count is without what is known of each operation; u.mu is held.
func (u *upstream) count() upstreamReport {
	return upstreamReport{Answers: u.answers, Operations: u.asked.n}
}

func (u *upstream) report() upstreamReport {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.count()
	all.Asked, all.Told = map[int64]int64{}, map[int64]int64{}
	for number, m := range u.known {
		all.Asked[number] = m.asked
		if m.told != 0 {
			all.Told[number] = m.told
		}
	}
	return all
}

// awaitAsked answers once so many operations were asked about.
func (u *upstream) awaitAsked(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	reached := u.asked.reach(n)
	u.mu.Unlock()
	_ = await(r.Context(), reached)
}

// answer says how an operation stands. The time of a terminal answer is taken just
// before it leaves, so that a delay counted from it is never too short.
func (u *upstream) answer(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	o, err := parseOperation(id)
	if err != nil {
		http.Error(w, `{"success":false,"errors":[{"code":7003,"message":"No route for the URI"}],"messages":[]}`, http.StatusNotFound)
		return
	}
	now := time.Now().UnixNano()
	over := o.ends == held && u.released.Load() || o.ends != held && o.ends <= now
	var b strings.Builder
	fmt.Fprintf(&b, `{"success":true,"errors":[],"messages":[],"result":{"id":"%s","status":`, id)
	if over {
		b.WriteString(`"completed","completed":"2020-01-01T08:00:05Z"}}`)
	} else {
		b.WriteString(`"running"}}`)
	}
	u.note(o, over, now)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(b.String()))
}

func (u *upstream) note(o operation, over bool, now int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answers++
	number := int64(o.number)
	m, known := u.known[number]
	if !known {
		m.asked = now
		u.asked.add()
	}
	if over && m.told == 0 {
		m.told = now
	}
	if m != u.known[number] {
		u.known[number] = m
	}
}

// account is whose operations all are.
const account = "023e105f4ecef8ad9ca31a8372d0c353"

// operation is one that the upstream's stand-in knows without having been told:
// its id, 32 hexadecimal digits as Cloudflare's, says all about it.
type operation struct {
	// ends is when it becomes terminal, in nanoseconds since 1970; held is when the
	// upstream is told to release what it holds.
	ends   int64
	number uint64
}

// held is when operations end that the upstream holds.
const held = 0

// until is the operation of the number that ends then.
func until(at time.Time, number uint64) operation { return operation{at.UnixNano(), number} }

// String is the operation's id.
func (o operation) String() string { return fmt.Sprintf("%016x%016x", uint64(o.ends), o.number) }

// parseOperation reads an operation's id.
func parseOperation(id string) (operation, error) {
	const digits = 16
	if len(id) != 2*digits {
		return operation{}, errors.New("not 32 digits")
	}
	ends, err := strconv.ParseInt(id[:digits], 16, 64)
	if err != nil {
		return operation{}, err
	}
	number, err := strconv.ParseUint(id[digits:], 16, 64)
	return operation{ends, number}, err
}
