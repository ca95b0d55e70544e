package console

import (
	"cmp"
	"slices"

	"oprelay/api/client"
)

// watchesPage is /watches.
type watchesPage struct {
	list

	Watches      []client.Watch
	Destinations []client.Destination // to filter by
	Sources      []string             // to filter by
}

func listWatches(p *page) error {
	if p.canonical() {
		return nil
	}
	found, err := decode[client.WatchList](p.api.ListWatches(p.ctx, nil, with(p.query())))
	l, err := p.list(found.NextCursor, err)
	if err != nil {
		return err
	}
	known, err := p.destinations()
	if err != nil {
		return err
	}
	sources, err := p.sources()
	if err != nil {
		return err
	}
	shown := watchesPage{
		list: l, Watches: found.Data, Destinations: known.choices(l.Filter("destination_id")),
		Sources: sourceNames(sources, l.Filter("source")),
	}
	live := "any"
	if l.First != "" { // an older page, where nothing begins
		live = "shown"
	}
	return p.showAs(l.status(), "watches", view{Title: "Watches", Section: "/watches", Live: live, Refresh: refreshMany, Data: shown})
}

// choices are the destinations in the order of their names, and the one that is chosen, if any, also if it is not
// among them.
func (known destinations) choices(chosen string) []client.Destination {
	var all []client.Destination
	for _, destination := range known {
		all = append(all, destination)
	}
	slices.SortFunc(all, func(a, b client.Destination) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	if chosen != "" && known[chosen].ID == "" {
		all = append(all, known.of(chosen))
	}
	return all
}
