package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"oprelay/storage"
)

// liveTime is how long one live connection lasts. The browser opens another, which asks for the
// session anew.
const liveTime = 5 * time.Minute

// liveCheck is how often a live connection looks whether its session goes on: signing out ends it, in any process.
const liveCheck = 10 * time.Second

// followLive hands the API's stream on to the page's script.
func followLive(p *page) error {
	ctx, cancel := context.WithTimeout(p.ctx, liveTime)
	defer cancel()
	go p.endWithSession(ctx, cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://relay/v1/events/stream?progress=true", http.NoBody)
	if err != nil {
		return err
	}
	inside{p.server}.serve(policed{p.w}, request)
	return nil
}

// endWithSession ends the connection with the session.
func (p *page) endWithSession(ctx context.Context, end context.CancelFunc) {
	tick := time.NewTicker(p.liveCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := p.sessionKey(p.r); errors.Is(err, storage.ErrNotFound) { // not if the store is away
			end()
			return
		}
	}
}

// policed has an answer of the API's carry what every answer of the console does.
type policed struct{ http.ResponseWriter }

func (w policed) WriteHeader(status int) {
	setHeaders(w.Header())
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach what it controls.
func (w policed) Unwrap() http.ResponseWriter { return w.ResponseWriter }
