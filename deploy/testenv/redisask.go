package testenv

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// readyLimit is when servers that have to agree among themselves count as broken.
	readyLimit = time.Minute
	// askEvery is how often they are asked whether they have.
	askEvery = 50 * time.Millisecond
)

// address is where a Redis server listens: host and port.
func (s *Server) address() string {
	s.t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Host
}

// redis asks a Redis server, which has to answer, if only after a moment.
func (s *Server) redis(ask func(context.Context, *redis.Client) error) {
	s.t.Helper()
	var err error
	client := redis.NewClient(&redis.Options{Addr: s.address()})
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), readyLimit)
	defer cancel()
	if err = ask(ctx, client); err != nil {
		s.t.Fatalf("%s: %v", s.URL, err)
	}
}

// await asks a Redis server until it is as it should be.
func (s *Server) await(ready func(context.Context, *redis.Client) bool) {
	s.t.Helper()
	s.redis(func(ctx context.Context, client *redis.Client) error {
		again := time.NewTicker(askEvery)
		defer again.Stop()
		for !ready(ctx, client) {
			select {
			case <-again.C:
			case <-ctx.Done():
				return errors.New("is not ready")
			}
		}
		return nil
	})
}
