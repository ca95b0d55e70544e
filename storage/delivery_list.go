package storage

import (
	"context"
	"errors"
	"time"

	"oprelay/storage/sqldb"
)

// DeliveryFilter narrows a list of deliveries; an empty field does not.
type DeliveryFilter struct {
	TenantID      string // required
	WatchID       string
	DestinationID string
	EventID       string
	EventType     string
	Status        string
	CreatedAfter  time.Time
	CreatedBefore time.Time
}

// eventOfWatch finds the one event of a watch, and by it the watch's deliveries.
const eventOfWatch = `SELECT event_id FROM watch_ends WHERE watch_id = `

// Deliveries lists the tenant's deliveries, newest first. What no index has is looked for in a
// bounded number of rows: then a page may be short and yet have a Next.
func (s *Store) Deliveries(ctx context.Context, f DeliveryFilter, page Page) (_ List[Delivery], err error) {
	defer wrapf(&err, "list deliveries")
	if f.DestinationID != "" {
		// The index has all deliveries of a destination: how long it takes to find that none
		// is this tenant's would tell how many another tenant has.
		_, err := sqldb.One(ctx, s.reader(), prefixDestination.read, `SELECT id FROM destinations WHERE tenant_id = $1 AND id = $2`,
			prefixTenant.arg(f.TenantID), prefixDestination.arg(f.DestinationID))
		if errors.Is(err, ErrNotFound) {
			return List[Delivery]{}, nil
		}
		if err != nil {
			return List[Delivery]{}, err
		}
	}
	query := sqldb.PageQuery[Delivery]{
		Scan: s.db.scanDelivery, ID: deliveryID, Key: prefixDelivery.arg, IDColumn: "d.id",
		Always: sqldb.Filter{Column: "d.tenant_id", Value: prefixTenant.arg(f.TenantID)},
		Bounds: createdBetween(prefixDelivery, f.CreatedAfter, f.CreatedBefore),
	}
	rest := f.useIndex(&query)
	read := func(page Page) (List[Delivery], error) {
		query.Page = page
		return sqldb.ReadPage(ctx, s.reader(), query)
	}
	if rest == (DeliveryFilter{TenantID: f.TenantID}) {
		return read(page)
	}
	return sqldb.SearchPage(page, read, rest.fits, deliveryID)
}

func deliveryID(d Delivery) string { return d.ID }

// useIndex has a query use the index that leaves the fewest rows, and returns what of the
// filter that does not see to. Few deliveries have not succeeded, and those have tables of their
// own; where nearly all have, a page is soon filled.
func (f DeliveryFilter) useIndex(query *sqldb.PageQuery[Delivery]) DeliveryFilter {
	rest, table := f, "deliveries"
	var by sqldb.Filter
	var turns []string
	switch {
	case f.EventID != "":
		by, rest.EventID = prefixEvent.filter("d.event_id", f.EventID), ""
	case f.WatchID != "":
		by, rest.WatchID = sqldb.Filter{Column: "d.event_id", Value: prefixWatch.arg(f.WatchID), Query: eventOfWatch}, ""
	case f.Status == DeliveryPending:
		table, turns, rest.Status = "waiting_deliveries", []string{turnFirst, turnAgain}, ""
	case f.Status == DeliveryHeld:
		table, turns, rest.Status = "waiting_deliveries", []string{turnHeld}, ""
	case f.Status == DeliveryFailed || f.Status == DeliveryCanceled:
		table, by, rest.Status = "unaccepted_deliveries", sqldb.Filter{Column: "d.status", Value: f.Status}, ""
	default:
		by, rest.DestinationID = prefixDestination.filter("d.destination_id", f.DestinationID), ""
	}
	query.Selection = selectDelivery(table) + `WHERE TRUE`
	query.Filters, query.Listed.ID = []sqldb.Filter{by}, "id"
	for _, turn := range turns {
		query.Listed.Tables = append(query.Listed.Tables, sqldb.ListedIn{Table: table, Filter: sqldb.Filter{Column: "turn", Value: turn}})
	}
	return rest
}

func (f DeliveryFilter) fits(d Delivery) bool {
	return (f.WatchID == "" || f.WatchID == d.WatchID) &&
		(f.DestinationID == "" || f.DestinationID == d.DestinationID) &&
		(f.EventID == "" || f.EventID == d.EventID) &&
		(f.EventType == "" || f.EventType == d.EventType) &&
		(f.Status == "" || f.Status == d.Status) &&
		within(d.CreatedAt, f.CreatedAfter, f.CreatedBefore)
}
