package storage

import (
	"context"
	"time"

	"oprelay/storage/sqldb"
)

// FeedStart is an event's id that no event has: it stands before the first of every feed.
const FeedStart = "event_00000000000000000000000000"

// feedDisorder is how far created_at may run against the order of the feed: a transaction
// takes up to sqldb.AnswerTime, and the clocks of processes differ.
const feedDisorder = sqldb.AnswerTime + 5*time.Second

// FeedFilter says which part of a tenant's feed is asked for.
type FeedFilter struct {
	TenantID string    // required
	After    string    // an event of the tenant, FeedStart or "" for the beginning
	Since    time.Time // begin with the first event that was made then or later; zero for any
	Type     string    // "" for all
}

// Events is the tenant's feed, oldest first. Following List.Next, as After, misses none, for
// events are numbered in the order of commits. ErrNotFound if After is no event of the tenant.
func (s *Store) Events(ctx context.Context, f FeedFilter, limit int) (_ List[Event], err error) {
	defer wrapf(&err, "events")
	seq, err := s.FeedPlace(ctx, f.TenantID, f.After)
	if err != nil {
		return List[Event]{}, err
	}
	if !f.Since.IsZero() {
		if seq, err = s.feedPlaceAt(ctx, f.TenantID, seq, f.Since); err != nil {
			return List[Event]{}, err
		}
	}
	limit = max(limit, 1)
	events, err := s.EventsFrom(ctx, FeedPart{f.TenantID, seq, f.Type}, limit+1)
	return sqldb.Cut(events, limit, func(e Event) string { return e.ID }), err
}

// FeedPart is a tenant's feed after an event's seq, and only of a type unless that is "".
type FeedPart struct {
	TenantID string
	After    int64
	Type     string
}

// EventsFrom returns up to limit events of the part, oldest first. The index by type bounds
// what a rare one costs.
func (s *Store) EventsFrom(ctx context.Context, part FeedPart, limit int) (_ []Event, err error) {
	defer wrapf(&err, "events")
	if part.Type == "" {
		return sqldb.All(ctx, s.reader(), scanEvent,
			selectEvent+`WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, part.TenantID, part.After, limit)
	}
	return sqldb.All(ctx, s.reader(), scanEvent,
		selectEvent+`WHERE tenant_id = $1 AND type = $2 AND seq > $3 ORDER BY seq LIMIT $4`,
		part.TenantID, part.Type, part.After, limit)
}

// FeedPlace is the seq of an event of the tenant, or else ErrNotFound; 0 for FeedStart and "".
func (s *Store) FeedPlace(ctx context.Context, tenantID, eventID string) (_ int64, err error) {
	if eventID == "" || eventID == FeedStart {
		return 0, nil
	}
	return sqldb.One(ctx, s.reader(), sqldb.Int, `SELECT seq FROM events WHERE tenant_id = $1 AND id = $2`, tenantID, eventID)
}

// feedPlaceAt is the seq of the event, after another, before the first that was made at a time
// or later. Times follow the order of the feed but for feedDisorder: so it is found by halving.
func (s *Store) feedPlaceAt(ctx context.Context, tenantID string, after int64, at time.Time) (int64, error) {
	end, err := sqldb.One(ctx, s.reader(), sqldb.Int, `SELECT event_seq FROM tenants WHERE id = $1`, tenantID)
	if err != nil {
		return 0, err
	}
	low, high := after, max(after, end) // what was made before surely is up to low
	for low < high {
		middle := low + (high-low)/2
		next, err := sqldb.All(ctx, s.reader(), scanFeedPlace, `SELECT seq, created_at FROM events
			WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT 1`, tenantID, middle)
		switch {
		case err != nil:
			return 0, err
		case len(next) > 0 && next[0].at.Before(at.Add(-feedDisorder)):
			low = next[0].seq
		default:
			high = middle
		}
	}
	first, err := sqldb.All(ctx, s.reader(), sqldb.Int, `SELECT seq FROM events WHERE tenant_id = $1 AND seq > $2
		AND created_at >= $3 ORDER BY seq LIMIT 1`, tenantID, low, at.UnixMicro())
	if err != nil || len(first) == 0 {
		return max(after, end), err
	}
	return first[0] - 1, nil
}

// feedPlace is where an event is in the feed, and when it was made.
type feedPlace struct {
	seq int64
	at  time.Time
}

func scanFeedPlace(row sqldb.Row) (p feedPlace, err error) {
	err = row.Scan(&p.seq, sqldb.Time(&p.at))
	return p, err
}

// FeedEnd is the seq of the tenant's newest event, and its id: FeedStart where there is none.
func (s *Store) FeedEnd(ctx context.Context, tenantID string) (seq int64, eventID string, err error) {
	defer wrapf(&err, "end of the feed")
	_, err = sqldb.One(ctx, s.reader(), func(row sqldb.Row) (bool, error) {
		return true, row.Scan(&seq, &eventID)
	}, `SELECT t.event_seq, COALESCE(e.id, $2) FROM tenants t
		LEFT JOIN events e ON e.tenant_id = t.id AND e.seq = t.event_seq WHERE t.id = $1`, tenantID, FeedStart)
	return seq, eventID, err
}

// FeedEnds is the seq of each tenant's newest event, by tenant.
func (s *Store) FeedEnds(ctx context.Context, tenantIDs []string) (_ map[string]int64, err error) {
	defer wrapf(&err, "ends of feeds")
	var args sqldb.Args
	ends := make(map[string]int64, len(tenantIDs))
	_, err = s.reader().Query(ctx, func(row sqldb.Row) error {
		var id string
		var seq int64
		err := row.Scan(&id, &seq)
		ends[id] = seq
		return err
	}, `SELECT id, event_seq FROM tenants WHERE `+s.db.In(&args, "id", tenantIDs), args...)
	return ends, err
}
