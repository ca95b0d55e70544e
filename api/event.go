package api

import (
	"errors"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

// ListEvents shows a page of the feed of events, oldest first: GET /v1/events.
func (s *Server) ListEvents(c echo.Context, params ListEventsParams) error {
	if params.After != nil && params.Cursor != nil {
		var f faults
		f.addf("?after", "does not go with cursor: begin with after, go on with cursor")
		f.addf("?cursor", "does not go with after: begin with after, go on with cursor")
		return f.err()
	}
	page, err := pageOf("event", params.Limit, params.Cursor)
	if err != nil {
		return err
	}
	after, pointer := page.After, "?cursor"
	if after == "" {
		after, pointer = or(params.After, ""), "?after"
	}
	list, err := s.store.Events(c.Request().Context(), requestOf(c).key.TenantID, after, page.Limit)
	if errors.Is(err, storage.ErrNotFound) {
		return invalid(pointer, "there is no such event")
	}
	if err != nil {
		return err
	}
	return respond(c, EventList{Data: each(list.Data, eventAnswer), NextCursor: nextCursor(list.Next)})
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
