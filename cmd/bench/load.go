package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// batchSize is the most watches that one request may register.
const batchSize = 1000

// metadata makes an event's body about 500 bytes long.
const metadata = `{"deploy":"42","pipeline":"edge-configuration","commit":"6b1e7a9c0f4d2385"}`

// load registers watches. It writes requests by hand and does not read the answers'
// bodies, so that it costs little beside what it measures.
type load struct {
	relay       *relay
	client      *http.Client
	destination string
	ends        func(number uint64) operation
	next        atomic.Uint64 // number of the next operation
}

// newLoad is a load over so many connections. Its watches tell the destination.
func (r *relay) newLoad(destination string, connections int, ends func(number uint64) operation) *load {
	return &load{
		relay: r, destination: destination, ends: ends,
		client: &http.Client{
			Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, DisableCompression: true},
			Timeout:   time.Minute,
		},
	}
}

// hold is for operations that the upstream holds.
func hold(number uint64) operation { return operation{held, number} }

// watch is the body of a registration. Credentials take turns.
func (l *load) watch() []byte {
	number := l.next.Add(1)
	credentials := l.relay.credentials
	return fmt.Appendf(nil, `{"operation_id":%q,"account_id":%q,"credential_id":%q,"destination_ids":[%q],"metadata":%s}`,
		l.ends(number).String(), account, credentials[number%uint64(len(credentials))], l.destination, metadata)
}

// one registers one watch.
func (l *load) one(ctx context.Context) error { return l.post(ctx, "/v1/watches", l.watch()) }

// batch registers so many watches in one request.
func (l *load) batch(ctx context.Context, n int) error {
	body := []byte(`{"watches":[`)
	for i := range n {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, l.watch()...)
	}
	return l.post(ctx, "/v1/watches/batch", append(body, "]}"...))
}

func (l *load) post(ctx context.Context, path string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.relay.api.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	return l.do(request, http.StatusCreated)
}

// get asks for a page and does not read it.
func (l *load) get(ctx context.Context, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.relay.api.URL+path, nil)
	if err != nil {
		return err
	}
	return l.do(request, http.StatusOK)
}

func (l *load) do(request *http.Request, want int) error {
	request.Header.Set("Authorization", "Bearer "+l.relay.key)
	response, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != want {
		problem, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, response.Status, problem)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
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
