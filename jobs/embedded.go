package jobs

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// EmbeddedRedis is a Redis within this process, for a relay that installs nothing.
// It may lose everything with the process: Redis holds wake-ups, never promises.
type EmbeddedRedis struct {
	server *miniredis.Miniredis
	cancel context.CancelFunc
	done   sync.WaitGroup
	url    string
}

// StartEmbeddedRedis listens on a free loopback port, behind a password that only
// this process knows.
func StartEmbeddedRedis() (*EmbeddedRedis, error) {
	server := miniredis.NewMiniRedis()
	password := rand.Text()
	server.RequireAuth(password)
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &EmbeddedRedis{server: server, cancel: cancel, url: "redis://:" + password + "@" + server.Addr()}
	e.done.Go(func() {
		// Keys expire only when told of the time; the server's own clock option
		// makes every command slower by far.
		for wait(ctx, time.Second) {
			server.FastForward(time.Second)
		}
	})
	return e, nil
}

// URL is what OpenRedis takes. It holds a password: do not log it.
func (e *EmbeddedRedis) URL() string { return e.url }

// Close stops it; what it held is gone.
func (e *EmbeddedRedis) Close() {
	e.cancel()
	e.done.Wait()
	e.server.Close()
}
