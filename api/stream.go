package api

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"oprelay/api/feed"
	"oprelay/storage"
)

// newHub makes what streams of events are served by. The holder of a stream is its API key.
func (s *Server) newHub(config Config) (*feed.Hub, error) {
	return feed.New(feed.Config{
		Store: s.store, Logger: s.logger, Valid: s.store.ValidKeys, Metrics: config.Metrics,
		Event: func(e storage.Event) ([]byte, error) { return oneLine(eventAnswer(e)) },
		Watch: func(w storage.Watch) ([]byte, error) { return oneLine(watchAnswer(w)) },
	})
}

// oneLine is JSON without a line's end.
func oneLine(value any) ([]byte, error) {
	text, err := marshal(value)
	return bytes.TrimSuffix(text, []byte("\n")), err
}

// Changed tells the streams of this process what a commit has changed, in this process or
// another: see [storage.Store.SetOnChange]. It never blocks, and no stream depends on it.
func (s *Server) Changed(changes storage.Changes) { s.feeds.Changed(changes) }

// ShowsProgress says whether some stream of this process shows how watches change: else
// Changed needs to be told of events alone.
func (s *Server) ShowsProgress() bool { return s.feeds.ShowsProgress() }

// StreamEvents follows the feed: GET /v1/events/stream.
func (s *Server) StreamEvents(c echo.Context, params StreamEventsParams) error {
	key, after, pointer := requestOf(c).key, or(params.After, ""), "?after"
	if params.LastEventID != nil {
		after, pointer = *params.LastEventID, "Last-Event-ID:"
	}
	stream, err := s.feeds.Open(c.Request().Context(), feed.Request{
		TenantID: key.TenantID, Holder: key.ID, After: after,
		Type: string(or(params.Type, "")), Progress: or(params.Progress, false),
	})
	if errors.Is(err, storage.ErrNotFound) {
		return invalid(pointer, "there is no such event")
	}
	if err != nil {
		return err
	}
	defer stream.Close()
	header := c.Response().Header()
	header.Set(echo.HeaderContentType, feed.ContentType)
	header.Set(echo.HeaderConnection, "close") // what follows on it would inherit the stream's deadlines
	header.Set("X-Accel-Buffering", "no")      // by nginx, https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
	c.Response().WriteHeader(http.StatusOK)
	if c.Request().Method == http.MethodHead {
		return nil
	}
	return stream.Serve(c.Request().Context(), c.Response().Writer)
}
