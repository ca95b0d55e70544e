package console

import (
	"oprelay/api/client"
	"oprelay/storage"
)

// deliveryPage is /deliveries/{id}.
type deliveryPage struct {
	Delivery    client.Delivery
	Event       client.Event
	Destination *client.Destination // nil once it is deleted
	Curl        string              // of a webhook
	Redeliver   *action
	Refresh     int // seconds after which something will have happened; 0 for nothing
}

func showDelivery(p *page) error {
	delivery, err := decode[client.Delivery](p.api.GetDelivery(p.ctx, p.r.PathValue("id")))
	if err != nil {
		return err
	}
	shown := deliveryPage{Delivery: delivery, Refresh: p.due(delivery)}
	if shown.Event, err = decode[client.Event](p.api.GetEvent(p.ctx, delivery.EventID)); err != nil {
		return err
	}
	shown.Destination, err = found(decode[client.Destination](p.api.GetDestination(p.ctx, delivery.DestinationID)))
	if err != nil {
		return err
	}
	if to := shown.Destination; to != nil {
		shown.Redeliver = p.offer(storage.ScopeWrite, redelivery(delivery, *to))
		if to.URL != nil {
			shown.Curl = replay(*to.URL, shown.Event)
		}
	}
	return p.show("delivery", view{
		Title: words(delivery.EventType) + " to " + shown.To(), Section: "/deliveries", Live: deref(delivery.WatchID),
		Refresh: refreshOne, Data: shown,
	})
}

// To is what people call the destination.
func (d deliveryPage) To() string {
	if d.Destination == nil {
		return "a deleted destination"
	}
	return d.Destination.Name
}

// Body is the event's, byte for byte.
func (d deliveryPage) Body() string { return string(d.Event.Body) }

// Next says what will happen to the delivery.
func (d deliveryPage) Next() string {
	switch d.Delivery.Status {
	case client.DeliveryPending:
		return "" // the template tells the time
	case client.DeliveryHeld:
		return "It waits until its destination is enabled."
	case client.DeliverySucceeded:
		return "Nothing: it was accepted."
	case client.DeliveryFailed:
		return "Nothing, unless it is redelivered: its retries are used up."
	case client.DeliveryCanceled:
		return "Nothing: its destination was deleted."
	}
	return ""
}

func redelivery(d client.Delivery, to client.Destination) action {
	ask := "It is sent to " + to.Name + " at once, with the same webhook-id and body, and retried from the start of the schedule."
	if to.Status == client.Disabled {
		ask = to.Name + " is disabled: it is sent there, with the same webhook-id and body, once that is enabled."
	}
	if d.Status == client.DeliverySucceeded {
		ask += " It was accepted already: a receiver that remembers the webhook-id ignores it."
	}
	return action{URL: "/deliveries/" + d.ID + "/redeliver", Label: "Redeliver", Ask: ask}
}
