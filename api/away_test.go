package api_test

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"oprelay/api"
	"oprelay/deploy/testenv"
)

// wire carries connections to a database, until it is cut.
type wire struct {
	server string
	mu     sync.Mutex
	cut    bool
	open   []net.Conn
}

// newWire listens in place of the database and returns the URL to use.
func newWire(t *testing.T, databaseURL string) (*wire, string) {
	t.Helper()
	at, err := url.Parse(databaseURL)
	must(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{server: at.Host}
	t.Cleanup(func() {
		_ = listener.Close()
		w.set(true)
	})
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			w.join(near)
		}
	}()
	at.Host = listener.Addr().String()
	return w, at.String()
}

func (w *wire) join(near net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	far, err := (&net.Dialer{}).Dial("tcp", w.server)
	if w.cut || err != nil {
		_ = near.Close()
		return
	}
	w.open = append(w.open, near, far)
	go func() { _, _ = io.Copy(near, far) }()
	go func() { _, _ = io.Copy(far, near) }()
}

// set cuts the wire, or mends it.
func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	for _, conn := range w.open {
		_ = conn.Close()
	}
	w.open = nil
}

func TestAStoreThatIsAwayIs503AndStoresNothing(t *testing.T) {
	t.Parallel()
	w, databaseURL := newWire(t, testenv.Postgres(t))
	r := newRelayOn(t, databaseURL)
	const body = `{"name":"x","api_token":"t"}`
	before := r.rows()

	w.set(true)
	for _, path := range []string{"/v1/watches", "/readyz"} {
		answer := r.do(r.write, http.MethodGet, path, "")
		if answer.status != http.StatusServiceUnavailable || answer.header.Get("Retry-After") == "" || contains(answer, "127.0.0.1") {
			t.Errorf("%s: %d %s", path, answer.status, answer.body)
		}
	}
	if answer := r.do(r.write, http.MethodPost, "/v1/credentials", body, key("k")); answer.status != http.StatusServiceUnavailable {
		t.Errorf("POST: %d %s", answer.status, answer.body)
	}
	if answer := r.do("", http.MethodGet, "/healthz", ""); answer.status != http.StatusOK {
		t.Errorf("the process lives all the same: %d", answer.status)
	}

	w.set(false)
	r.awaitReady()
	if after := r.rows(); !maps.Equal(before, after) {
		t.Errorf("something was stored: %v, before %v", after, before)
	}
	if answer := r.do(r.write, http.MethodPost, "/v1/credentials", body, key("k")); answer.status != http.StatusCreated {
		t.Errorf("the same request afterwards: %d %s", answer.status, answer.body)
	}
}

// awaitReady waits until the relay has noticed that its database is back.
func (r *relay) awaitReady() {
	r.t.Helper()
	r.awaitStatus(http.StatusOK, "/readyz", func() {})
}

// awaitStatus waits until the page is answered so, and does something before it asks each time.
func (r *relay) awaitStatus(status int, path string, before func()) {
	r.t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for range 1000 {
		if before(); r.do("", http.MethodGet, path, "").status == status {
			return
		}
		<-again.C
	}
	r.t.Fatalf("%s is never answered %d", path, status)
}

// cutter cuts a wire when it is asked about a URL.
type cutter struct{ wire *wire }

func (c cutter) CheckURL(context.Context, string) error { c.wire.set(true); return nil }

// A request that fails because the database goes away in its middle can be
// repeated with its key soon after the database is back.
func TestAnInterruptedRequestCanBeRepeated(t *testing.T) {
	t.Parallel()
	w, databaseURL := newWire(t, testenv.Postgres(t))
	r := newRelayOn(t, databaseURL, func(c *api.Config) { c.Egress = cutter{w} })
	t.Cleanup(r.server.Drain)
	const body = `{"type":"webhook","name":"x","url":"https://example.com/"}`
	if answer := r.do(r.write, http.MethodPost, "/v1/destinations", body, key("k")); answer.status != http.StatusServiceUnavailable {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	w.set(false)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for range 300 { // the reservation itself never runs out: the clock stands still
		answer := r.do(r.write, http.MethodPost, "/v1/destinations", body, key("k"))
		switch answer.status {
		case http.StatusServiceUnavailable: // the key was free, and the wire was cut again
			return
		case http.StatusConflict:
			<-again.C
		default:
			t.Fatalf("%d %s", answer.status, answer.body)
		}
	}
	t.Error("the request counts as running for ever")
}
