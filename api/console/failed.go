package console

import (
	"fmt"
	"net/url"
	"slices"

	"oprelay/api/client"
)

// maxFailedPages bounds how many pages of failed deliveries the overview looks through.
const maxFailedPages = 2

// failedDeliveries are the destinations that have not accepted something to the last retry. What was for a deleted
// one is left out: it can be sent nowhere.
func (p *page) failedDeliveries(known client.DestinationList) ([]need, error) {
	failed, more, err := p.newestFailed()
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, d := range known.Data {
		names[d.ID] = d.Name
	}
	var order []string // of who failed last
	of := map[string][]client.Delivery{}
	for _, d := range failed {
		if names[d.DestinationID] == "" && known.NextCursor == nil {
			continue
		}
		if of[d.DestinationID] == nil {
			order = append(order, d.DestinationID)
		}
		of[d.DestinationID] = append(of[d.DestinationID], d)
	}
	return each(order, func(id string) need {
		last, n := of[id][0], len(of[id])
		text := "has not accepted " + counted(n, "message", "messages")
		if more {
			text += fmt.Sprintf(" of the %d that failed last in all", len(failed))
		}
		return need{
			Badge: "failed", Name: deliveryRows{Destinations: destinations{id: {ID: id, Name: names[id]}}}.To(id), Since: last.FinishedAt,
			Text: text + ", the last " + string(last.EventType),
			Link: "/deliveries?" + url.Values{"destination_id": {id}, "status": {string(client.DeliveryFailed)}}.Encode(),
		}
	}), nil
}

// newestFailed are the newest failed deliveries, and whether there are more.
func (p *page) newestFailed() (all []client.Delivery, more bool, _ error) {
	failed, most := client.DeliveryFailed, largest
	params := client.ListDeliveriesParams{Status: &failed, Limit: &most}
	for range maxFailedPages {
		list, err := decode[client.DeliveryList](p.api.ListDeliveries(p.ctx, &params))
		if err != nil {
			return nil, false, err
		}
		all, params.Cursor = append(all, list.Data...), list.NextCursor
		if list.NextCursor == nil {
			return all, false, nil
		}
	}
	return all, true, nil
}

// lateDeliveries is that attempts are late.
func (p *page) lateDeliveries() ([]need, error) {
	pending, most := client.DeliveryPending, largest
	list, err := decode[client.DeliveryList](p.api.ListDeliveries(p.ctx, &client.ListDeliveriesParams{Status: &pending, Limit: &most}))
	if err != nil {
		return nil, err
	}
	waiting := slices.DeleteFunc(list.Data, func(d client.Delivery) bool { return !late(p.now(), d.NextAttemptAt) })
	if len(waiting) == 0 {
		return nil, nil
	}
	return []need{{
		Badge: "late", Name: counted(len(waiting), "delivery", "deliveries"), Link: "/deliveries?" + url.Values{"status": {"pending"}}.Encode(),
		Text: "should have been attempted: is a worker running?", Since: waiting[len(waiting)-1].NextAttemptAt,
	}}, nil
}
