package wake

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// Embedded is a Redis within this process, for a relay that installs nothing.
// It may lose everything with the process: Redis holds wake-ups, never promises.
type Embedded struct {
	server *miniredis.Miniredis
	cancel context.CancelFunc
	done   sync.WaitGroup
	url    string
}

// StartEmbedded listens on a free loopback port, behind a password that only
// this process knows.
func StartEmbedded() (*Embedded, error) {
	server := miniredis.NewMiniRedis()
	password := rand.Text()
	server.RequireAuth(password)
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Embedded{server: server, cancel: cancel, url: "redis://:" + password + "@" + server.Addr()}
	e.done.Go(func() {
		// Keys expire only when told of the time; the server's own clock option
		// makes every command slower by far.
		for wait(ctx, time.Second) {
			server.FastForward(time.Second)
		}
	})
	return e, nil
}

// URL is what Open takes. It holds a password: do not log it.
func (e *Embedded) URL() string { return e.url }

// Close stops it; what it held is gone.
func (e *Embedded) Close() {
	e.cancel()
	e.done.Wait()
	e.server.Close()
}

// wait pauses for d; it is false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
