package console

import (
	"net/url"
	"time"

	"oprelay/api/client"
)

// recent is how far back the list of events begins at most if nobody says: as late as there is something.
const recent = 24 * time.Hour

// eventsPage is /events: the feed, oldest first, from a time on.
type eventsPage struct {
	list

	Since  string // as an input of a form takes it
	Spans  []span
	Events []client.Event
}

// span is a choice of where the list begins.
type span struct{ Name, URL string }

func listEvents(p *page) error {
	if p.canonical() {
		return nil
	}
	asked := p.query()
	begins := []time.Duration{0}
	if !asked.Has("since") && !asked.Has("cursor") {
		begins = []time.Duration{5 * time.Minute, time.Hour, recent}
	}
	var found client.EventList
	var err error
	for _, long := range begins {
		if long > 0 {
			asked.Set("since", p.before(long))
		}
		if found, err = decode[client.EventList](p.api.ListEvents(p.ctx, nil, with(asked))); err != nil || len(found.Data) > 0 {
			break
		}
	}
	shown := eventsPage{Since: momentOf(asked.Get("since")), Events: found.Data}
	if shown.list, err = p.list(found.NextCursor, err); err != nil {
		return err
	}
	if found.NextCursor != nil { // which goes on from where since began
		asked.Del("since")
		asked.Set("cursor", *found.NextCursor)
		shown.Next = "/events?" + asked.Encode()
	}
	for _, choice := range []struct {
		name string
		long time.Duration
	}{{"5 minutes", 5 * time.Minute}, {"an hour", time.Hour}, {"24 hours", recent}, {"7 days", 7 * recent}, {"90 days", 90 * recent}} {
		query := url.Values{"since": {p.before(choice.long)}}
		if kind := asked.Get("type"); kind != "" {
			query.Set("type", kind)
		}
		shown.Spans = append(shown.Spans, span{choice.name, "/events?" + query.Encode()})
	}
	return p.showAs(shown.status(), "events", view{Title: "Events", Section: "/events", Live: "any", Refresh: refreshMany, Data: shown})
}

// before is the time so long ago, to the minute.
func (p *page) before(long time.Duration) string {
	return p.now().UTC().Add(-long).Truncate(time.Minute).Format(time.RFC3339)
}

// eventPage is /events/{id}.
type eventPage struct {
	Event client.Event
	deliveryRows
}

// Body is the event's, byte for byte.
func (e eventPage) Body() string { return string(e.Event.Body) }

func showEvent(p *page) error {
	id := p.r.PathValue("id")
	event, err := decode[client.Event](p.api.GetEvent(p.ctx, id))
	if err != nil {
		return err
	}
	most := largest
	deliveries, err := decode[client.DeliveryList](p.api.ListDeliveries(p.ctx, &client.ListDeliveriesParams{EventID: &id, Limit: &most}))
	if err != nil {
		return err
	}
	destinations, err := p.destinations()
	if err != nil {
		return err
	}
	return p.show("event", view{
		Title: words(event.Type), Section: "/events", Live: deref(event.WatchID), Refresh: refreshOne,
		Data: eventPage{event, deliveryRows{Deliveries: deliveries.Data, Destinations: destinations, OneEvent: true}},
	})
}

// eventTypes are those that a list can be filtered by.
func eventTypes() []client.EventType {
	return []client.EventType{
		client.EventOperationCompleted, client.EventOperationFailed, client.EventOperationExpired, client.EventOperationUnobservable,
		client.EventDestinationTest, client.EventDestinationDisabled, client.EventCredentialRejected, client.EventDeliveryFailed,
	}
}
