package console

import (
	"oprelay/api/client"
)

// destinationsPage is /destinations.
type destinationsPage struct {
	list

	Destinations []client.Destination
}

func listDestinations(p *page) error {
	found, err := decode[client.DestinationList](p.api.ListDestinations(p.ctx, nil, with(p.query())))
	l, err := p.list(found.NextCursor, err)
	if err != nil {
		return err
	}
	return p.showAs(l.status(), "destinations", view{
		Title: "Destinations", Section: "/destinations", Refresh: refreshMany, Data: destinationsPage{l, found.Data},
	})
}

// health is the status of a destination, with what its errors say of one that is enabled.
func health(d client.Destination) string {
	if d.Status == client.Enabled && d.FailingSince != nil {
		return "failing"
	}
	return string(d.Status)
}

// where is what a destination sends to, as far as it is no secret.
func where(d client.Destination) string {
	switch {
	case d.URL != nil:
		return *d.URL
	case d.Channel != nil:
		return "Slack channel " + *d.Channel
	}
	return "Slack incoming webhook"
}
