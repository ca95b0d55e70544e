package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// batchSize is the most watches that one request may register.
const batchSize = 1000

// metadata makes an event's body about 500 bytes long.
const metadata = `{"deploy":"42","pipeline":"edge-configuration","commit":"6b1e7a9c0f4d2385"}`

// load registers watches. It writes requests by hand and does not look into the
// answers, so that it costs little beside what it measures.
type load struct {
	relay        *relay
	client       *http.Client
	destinations []string
	ends         func(number uint64) operation
	next         atomic.Uint64       // number of the operation before the next one
	inARow       uint64              // watches of one credential, before the next has its turn
	answered     func(number uint64) // told when a watch was registered alone; nil for nobody
}

// newLoad is a load over so many connections. Each of its watches tells one of the
// destinations.
func (r *relay) newLoad(connections int, ends func(number uint64) operation, destinations ...string) *load {
	return &load{
		relay: r, destinations: destinations, ends: ends, inARow: 1,
		client: &http.Client{
			Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, DisableCompression: true},
			Timeout:   time.Minute,
		},
	}
}

// hold is for operations that the upstream holds.
func hold(number uint64) operation { return operation{held, number} }

// watch is the body of the operation's registration. Credentials and destinations
// take turns.
func (l *load) watch(number uint64) []byte {
	credentials := l.relay.credentials
	return fmt.Appendf(nil, `{"operation_id":%q,"account_id":%q,"credential_id":%q,"destination_ids":[%q],"metadata":%s}`,
		l.ends(number).String(), account, credentials[number/l.inARow%uint64(len(credentials))],
		l.destinations[number%uint64(len(l.destinations))], metadata)
}

// one registers one watch.
func (l *load) one(ctx context.Context) error { return l.single(ctx, "") }

// keyed is the same under an Idempotency-Key of its own.
func (l *load) keyed(ctx context.Context) error { return l.single(ctx, rand.Text()) }

func (l *load) single(ctx context.Context, key string) error {
	number := l.next.Add(1)
	err := l.post(ctx, "/v1/watches", key, l.watch(number))
	if err == nil && l.answered != nil {
		l.answered(number)
	}
	return err
}

// batch registers so many watches in one request.
func (l *load) batch(ctx context.Context, n int) error {
	body := []byte(`{"watches":[`)
	for i := range n {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, l.watch(l.next.Add(1))...)
	}
	return l.post(ctx, "/v1/watches/batch", "", append(body, "]}"...))
}

// post sends the body, under an Idempotency-Key if there is one.
func (l *load) post(ctx context.Context, path, key string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.relay.api.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	_, err = l.do(request, http.StatusCreated)
	return err
}

// signIn makes get ask for the console's pages, too.
func (l *load) signIn(ctx context.Context) (err error) {
	if l.client.Jar, err = cookiejar.New(nil); err != nil {
		return err
	}
	form := url.Values{"key": {l.relay.key}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.relay.api.URL+"/login", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, err = l.do(request, http.StatusOK) // of the page that it leads to
	return err
}

// get asks for a page.
func (l *load) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.relay.api.URL+path, nil)
	if err != nil {
		return nil, err
	}
	return l.do(request, http.StatusOK)
}

func (l *load) do(request *http.Request, want int) ([]byte, error) {
	request.Header.Set("Authorization", "Bearer "+l.relay.key)
	response, err := l.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s: %.4096s", request.Method, request.URL.Path, response.Status, body)
	}
	return body, err
}

// fill registers so many watches in batches, a few at a time.
func (l *load) fill(ctx context.Context, n int) error {
	const atOnce = 4
	batches := make(chan int, (n+batchSize-1)/batchSize)
	for ; n > 0; n -= batchSize {
		batches <- min(n, batchSize)
	}
	close(batches)
	faults := make([]error, atOnce)
	var all sync.WaitGroup
	for i := range atOnce {
		all.Go(func() {
			for size := range batches {
				if faults[i] = l.batch(ctx, size); faults[i] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(faults...)
}

// closed does one thing after the other on each connection until the time is up,
// and returns how long each took.
func closed(ctx context.Context, connections int, lasting time.Duration, do func(context.Context) error) ([]time.Duration, error) {
	end := time.Now().Add(lasting)
	took := make([][]time.Duration, connections)
	faults := make([]error, connections)
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			for time.Now().Before(end) && faults[i] == nil {
				begun := time.Now()
				faults[i] = do(ctx)
				took[i] = append(took[i], time.Since(begun))
			}
		})
	}
	all.Wait()
	var together []time.Duration
	for _, of := range took {
		together = append(together, of...)
	}
	return sorted(together), errors.Join(faults...)
}

// open does it at a steady rate, however long each takes, and returns how long
// after it should have begun each was done: a stall counts against all that it
// kept waiting.
func open(ctx context.Context, perSecond, n int, do func(context.Context) error) ([]time.Duration, error) {
	took, faults := make([]time.Duration, n), make([]error, n)
	begun := time.Now()
	var all sync.WaitGroup
	defer all.Wait()
	for i := range n {
		due := begun.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		timer := time.NewTimer(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
		all.Go(func() {
			faults[i] = do(ctx)
			took[i] = time.Since(due)
		})
	}
	all.Wait()
	return sorted(took), errors.Join(faults...)
}

// percentile is that of sorted durations, by nearest rank; p is up to 100.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p*float64(len(sorted))/100)) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}
