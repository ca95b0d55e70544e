package api

import (
	"errors"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

// ListEvents shows a page of the feed of events, oldest first: GET /v1/events.
func (s *Server) ListEvents(c echo.Context, params ListEventsParams) error {
	if err := oneBeginning(params); err != nil {
		return err
	}
	page, err := pageOf("event", params.Limit, params.Cursor)
	if err != nil {
		return err
	}
	after, pointer := page.After, "?cursor"
	if after == "" {
		after, pointer = or(params.After, ""), "?after"
	}
	since := params.Since
	if page.After != "" {
		since = nil
	}
	list, err := s.store.Events(c.Request().Context(), storage.FeedFilter{
		TenantID: requestOf(c).key.TenantID,
		After:    after,
		Since:    or(since, time.Time{}),
		Type:     string(or(params.Type, "")),
	}, page.Limit)
	if errors.Is(err, storage.ErrNotFound) { // with an empty page a reader would believe it had caught up
		return invalid(pointer, "there is no such event")
	}
	if err != nil {
		return err
	}
	return respond(c, EventList{Data: each(list.Data, eventAnswer), NextCursor: nextCursor(list.Next)})
}

// oneBeginning refuses a request that says twice where the feed begins. A cursor goes on from
// either.
func oneBeginning(params ListEventsParams) error {
	var f faults
	if params.After != nil && params.Since != nil {
		f.addf("?after", "does not go with since: begin with one of them")
		f.addf("?since", "does not go with after: begin with one of them")
	}
	return f.err()
}

// GetEvent shows an event: GET /v1/events/{event_id}.
func (s *Server) GetEvent(c echo.Context, id EventID) error {
	found, err := s.store.Event(c.Request().Context(), requestOf(c).key.TenantID, id)
	if err != nil {
		return err
	}
	return respond(c, eventAnswer(found))
}

func eventAnswer(row storage.Event) Event {
	return Event{
		ID:        row.ID,
		Type:      EventType(row.Type),
		WatchID:   orNull(row.WatchID),
		CreatedAt: row.CreatedAt,
		Body:      row.Body,
	}
}
