package storage

import (
	"context"
	"slices"
	"time"

	"oprelay/storage/sqldb"
)

// WatchFilter narrows a list of watches; an empty field does not.
type WatchFilter struct {
	TenantID      string   // required
	Statuses      []string // any of them
	Source        string
	OperationID   string
	AccountID     string
	DestinationID string
	Metadata      map[string]string // all of it
	CreatedAfter  time.Time
	CreatedBefore time.Time
}

// Watches lists the tenant's watches, newest first. What no index has is looked for in a
// bounded number of rows: then a page may be short and yet have a Next.
func (s *Store) Watches(ctx context.Context, f WatchFilter, page Page) (_ List[Watch], err error) {
	defer wrapf(&err, "list watches")
	if f.DestinationID != "" {
		known, err := s.KnownDestinations(ctx, f.TenantID, []string{f.DestinationID})
		if err != nil || !known[f.DestinationID] {
			return List[Watch]{}, err
		}
	}
	query := sqldb.PageQuery[Watch]{
		Selection: selectWatch + `WHERE TRUE`, Scan: s.db.scanWatch, ID: watchID, Key: prefixWatch.arg, IDColumn: "w.id",
		Always: sqldb.Filter{Column: "w.tenant_id", Value: prefixTenant.arg(f.TenantID)},
		Bounds: createdBetween(prefixWatch, f.CreatedAfter, f.CreatedBefore),
	}
	rest := f.useIndex(&query)
	read := func(page Page) (List[Watch], error) {
		query.Page = page
		watches, err := sqldb.ReadPage(ctx, s.reader(), query)
		if err == nil {
			err = s.db.addDestinations(ctx, s.reader(), watches.Data)
		}
		return watches, err
	}
	if rest.empty() {
		return read(page)
	}
	return sqldb.SearchPage(page, read, rest.fits, watchID)
}

func watchID(w Watch) string { return w.ID }

// useIndex has a query use the index that leaves the fewest rows, and returns what of the
// filter that does not see to: of what is hashed, all but the hash. Most watches are
// completed, where there are many, so a table tells of each other status which have it.
func (f WatchFilter) useIndex(query *sqldb.PageQuery[Watch]) WatchFilter {
	rest := f
	switch {
	case f.OperationID != "":
		query.Always = sqldb.Filter{Column: "w.operation_hash", Value: hashed(f.TenantID, f.OperationID)}
	case len(f.Statuses) > 0 && !slices.Contains(f.Statuses, WatchCompleted):
		query.Listed.ID = "watch_id"
		for _, status := range f.Statuses {
			in := sqldb.ListedIn{Table: "uncompleted_watches", Filter: sqldb.Filter{Column: "status", Value: status}}
			if status == WatchWatching {
				in = sqldb.ListedIn{Table: "open_watches"}
			}
			query.Listed.Tables = append(query.Listed.Tables, in)
		}
		rest.Statuses = nil
	case f.AccountID != "":
		query.Always = sqldb.Filter{Column: "w.account_hash", Value: hashed(f.TenantID, f.AccountID)}
	}
	return rest
}

// empty says whether all watches of the tenant fit.
func (f WatchFilter) empty() bool {
	return len(f.Statuses) == 0 && len(f.Metadata) == 0 && f.CreatedAfter.IsZero() && f.CreatedBefore.IsZero() &&
		f.Source+f.OperationID+f.AccountID+f.DestinationID == ""
}

func (f WatchFilter) fits(w Watch) bool {
	for key, value := range f.Metadata {
		if has, ok := w.Metadata[key]; !ok || has != value {
			return false
		}
	}
	return w.TenantID == f.TenantID && (len(f.Statuses) == 0 || slices.Contains(f.Statuses, w.Status)) &&
		(f.Source == "" || f.Source == w.Operation.Source) &&
		(f.OperationID == "" || f.OperationID == w.Operation.ID) &&
		(f.AccountID == "" || f.AccountID == w.Operation.AccountID()) &&
		(f.DestinationID == "" || slices.Contains(w.DestinationIDs, f.DestinationID)) &&
		within(w.CreatedAt, f.CreatedAfter, f.CreatedBefore)
}

// within says whether a time is after one and before another; the zero time is no bound.
func within(at, after, before time.Time) bool {
	return (after.IsZero() || at.After(after)) && (before.IsZero() || at.Before(before))
}

// createdBetween are the ids of all rows that were created then, and a few of the same
// millisecond before and after.
func createdBetween(p prefix, after, before time.Time) (bounds sqldb.Bounds) {
	if !after.IsZero() {
		bounds.From = firstID(p, after)
	}
	if !before.IsZero() {
		bounds.Before = firstID(p, before.Add(time.Millisecond))
	}
	return bounds
}
