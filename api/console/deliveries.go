package console

import (
	"cmp"

	"oprelay/api/client"
)

// deliveriesPage is /deliveries.
type deliveriesPage struct {
	list
	deliveryRows

	Choices []client.Destination // to filter by
}

// deliveryRows is a table of deliveries.
type deliveryRows struct {
	Deliveries   []client.Delivery
	Destinations destinations
	// OneEvent and OneDestination say that all of them have it in common, so that it is not shown.
	OneEvent, OneDestination bool
}

// To is what people call the destination.
func (d deliveryRows) To(id string) string { return cmp.Or(d.Destinations.of(id).Name, id) }

func listDeliveries(p *page) error {
	if p.canonical() {
		return nil
	}
	found, err := decode[client.DeliveryList](p.api.ListDeliveries(p.ctx, nil, with(p.query())))
	l, err := p.list(found.NextCursor, err)
	if err != nil {
		return err
	}
	known, err := p.destinations()
	if err != nil {
		return err
	}
	live := "any"
	if l.First != "" { // an older page, where nothing begins
		live = "shown"
	}
	return p.showAs(l.status(), "deliveries", view{
		Title: "Deliveries", Section: "/deliveries", Live: live, Refresh: refreshMany, Data: deliveriesPage{
			list: l, deliveryRows: deliveryRows{Deliveries: found.Data, Destinations: known}, Choices: known.choices(l.Filter("destination_id")),
		},
	})
}
