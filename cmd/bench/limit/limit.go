// Package limit is what the relay is compared with: asynq on its own, each task
// one HTTP request, and HTTP requests on their own.
package limit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

const (
	taskType = "bench:request"
	// servers and concurrency drain fastest on a small machine: a server takes its
	// tasks one by one, so there are several.
	servers, concurrency = 4, 32
	// enqueuers are at work at a time.
	enqueuers = 32
	// idlePerHost lets every request have a connection that is open already.
	idlePerHost = 256
	timeout     = 30 * time.Second
)

// Enqueue puts n tasks into the Redis at the URL, the body of each taken from the
// function.
func Enqueue(ctx context.Context, redisURL string, n int, payload func(i int) []byte) error {
	connection, err := asynq.ParseRedisURI(redisURL)
	if err != nil {
		return err
	}
	client := asynq.NewClient(connection)
	defer func() { _ = client.Close() }()
	return each(n, enqueuers, func(i int) error {
		_, err := client.EnqueueContext(ctx, asynq.NewTask(taskType, payload(i)))
		return err
	})
}

// Drain works off the tasks in the Redis at the URL until ctx ends. A task's payload
// is the body of a POST to the target; with get it is the rest of the target's path.
func Drain(ctx context.Context, redisURL, target string, get bool) error {
	connection, err := asynq.ParseRedisURI(redisURL)
	if err != nil {
		return err
	}
	client := newClient()
	handler := asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		if get {
			return send(ctx, client, http.MethodGet, target+string(t.Payload()), nil)
		}
		return send(ctx, client, http.MethodPost, target, t.Payload())
	})
	for range servers {
		server := asynq.NewServer(connection, asynq.Config{Concurrency: concurrency, LogLevel: asynq.FatalLevel})
		if err := server.Start(handler); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// Post sends n bodies to the target, as fast as it can.
func Post(ctx context.Context, target string, n int, body []byte) error {
	client := newClient()
	return each(n, servers*concurrency, func(int) error { return send(ctx, client, http.MethodPost, target, body) })
}

func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: idlePerHost, DisableCompression: true},
		Timeout:   timeout,
	}
}

func send(ctx context.Context, client *http.Client, method, url string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, url, response.Status)
	}
	return nil
}

// each does it n times, so many at a time, and returns what went wrong first with
// each of those.
func each(n, atOnce int, do func(i int) error) error {
	var next atomic.Int64
	faults := make([]error, atOnce)
	var all sync.WaitGroup
	for worker := range atOnce {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || faults[worker] != nil {
					return
				}
				faults[worker] = do(i)
			}
		})
	}
	all.Wait()
	return errors.Join(faults...)
}
