package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"oprelay/storage/sqldb"
)

// FeedStart is an event's id that no event has: it stands before the first of every feed.
const FeedStart = "event_00000000000000000000000000"

// feedDisorder is how far created_at may run against the order of the feed: a transaction
// takes up to sqldb.AnswerTime, and the clocks of processes differ.
const feedDisorder = sqldb.AnswerTime + 5*time.Second

// FeedGoneError says that a place in the feed has been deleted, see [Store.DeleteOld]: whoever
// went on from there could miss what was deleted after it.
type FeedGoneError struct {
	Begins string    // the place where the feed begins: an id that no event has
	Last   string    // the last event that was deleted
	At     time.Time // when that was made
}

func (e *FeedGoneError) Error() string {
	return fmt.Sprintf("the feed begins after %s, of %s", e.Last, e.At.Format(time.RFC3339))
}

// FeedFilter says which part of a tenant's feed is asked for.
type FeedFilter struct {
	TenantID string    // required
	After    string    // an event of the tenant, FeedStart, a FeedGoneError's Begins, or "" for the beginning
	Since    time.Time // begin with the first event that was made then or later; zero for any
	Type     string    // "" for all
}

// Events is the tenant's feed, oldest first. Following List.Next, as After, misses none, for
// events are numbered in the order of commits. Without After it begins with what is kept; it is a
// [FeedGoneError] if After, or something after it, was deleted, and ErrNotFound if After is no
// event of the tenant.
func (s *Store) Events(ctx context.Context, f FeedFilter, limit int) (_ List[Event], err error) {
	defer wrapf(&err, "events")
	limit = max(limit, 1)
	for {
		events, err := s.eventsOf(ctx, f, limit+1)
		if gone := (*FeedGoneError)(nil); f.After == "" && errors.As(err, &gone) {
			continue // what it was to begin with was deleted just now
		}
		return sqldb.Cut(events, limit, func(e Event) string { return e.ID }), err
	}
}

func (s *Store) eventsOf(ctx context.Context, f FeedFilter, limit int) ([]Event, error) {
	seq, err := s.FeedPlace(ctx, f.TenantID, f.After)
	if err == nil && !f.Since.IsZero() {
		seq, err = s.feedPlaceAt(ctx, f.TenantID, seq, f.Since)
	}
	if err != nil {
		return nil, err
	}
	return s.EventsFrom(ctx, FeedPart{f.TenantID, seq, f.Type}, limit)
}

// FeedPart is a tenant's feed after an event's seq, and only of a type unless that is "".
type FeedPart struct {
	TenantID string
	After    int64
	Type     string
}

// EventsFrom returns up to limit events of the part, oldest first; a [FeedGoneError] if some of
// these may have been deleted. The index by type bounds what a rare one costs; as it is asked here, PostgreSQL
// can use no other, though it may know of a single type.
func (s *Store) EventsFrom(ctx context.Context, part FeedPart, limit int) (events []Event, err error) {
	defer wrapf(&err, "events")
	tenant := prefixTenant.arg(part.TenantID)
	if part.Type == "" {
		events, err = sqldb.All(ctx, s.reader(), scanEvent,
			selectEvent+`WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, tenant, part.After, limit)
	} else {
		events, err = sqldb.All(ctx, s.reader(), scanEvent,
			selectEvent+`WHERE tenant_id = $1 AND (type, seq) > ($2, $3) AND (type, seq) <= ($2, $4) ORDER BY type, seq LIMIT $5`,
			tenant, part.Type, part.After, math.MaxInt64, limit)
	}
	if err != nil {
		return nil, err
	}
	start, err := s.feedStart(ctx, part.TenantID) // read last: it knows of all that the events lack
	if err != nil {
		return nil, err
	}
	return events, start.check(part.After)
}

// FeedPlace is the seq of an event of the tenant, or else ErrNotFound; 0 for FeedStart, and for
// "" where the feed begins. A [FeedGoneError] if it, or something after it, was deleted.
func (s *Store) FeedPlace(ctx context.Context, tenantID, eventID string) (seq int64, err error) {
	found := []int64{0}
	if eventID != "" && eventID != FeedStart {
		found, err = sqldb.All(ctx, s.reader(), sqldb.Int, `SELECT seq FROM events WHERE tenant_id = $1 AND id = $2`,
			prefixTenant.arg(tenantID), prefixEvent.arg(eventID))
		if err != nil {
			return 0, err
		}
	}
	start, err := s.feedStart(ctx, tenantID)
	switch {
	case err != nil:
		return 0, err
	case eventID == "" || start.seq > 0 && eventID == start.begins():
		return start.seq, nil
	case len(found) > 0:
		return found[0], start.check(found[0])
	case start.seq > 0 && strings.HasPrefix(eventID, string(prefixEvent)+"_") && eventID < firstID(prefixEvent, start.at.Add(feedDisorder)):
		return 0, start.gone()
	}
	return 0, ErrNotFound
}

// feedStart is the last event of a feed that was deleted, zero for none. All after it are there.
type feedStart struct {
	seq int64
	id  string
	at  time.Time
}

func (s *Store) feedStart(ctx context.Context, tenantID string) (start feedStart, err error) {
	_, err = s.reader().Query(ctx, func(row sqldb.Row) error {
		return row.Scan(&start.seq, prefixEvent.scan(&start.id), sqldb.Time(&start.at))
	}, `SELECT seq, event_id, created_at FROM feed_starts WHERE tenant_id = $1`, prefixTenant.arg(tenantID))
	return start, err
}

// check is a [FeedGoneError] if something after the place was deleted.
func (f feedStart) check(after int64) error {
	if after < f.seq {
		return f.gone()
	}
	return nil
}

func (f feedStart) gone() error {
	return &FeedGoneError{Begins: f.begins(), Last: f.id, At: f.at}
}

// begins stands for the place after the last event that was deleted.
func (f feedStart) begins() string { return nextID(prefixEvent, f.id) }

// feedPlaceAt is the seq of the event, after another, before the first that was made at a time
// or later. Times follow the order of the feed but for feedDisorder: so it is found by halving.
func (s *Store) feedPlaceAt(ctx context.Context, tenantID string, after int64, at time.Time) (int64, error) {
	tenant := prefixTenant.arg(tenantID)
	end, err := sqldb.One(ctx, s.reader(), sqldb.Int, `SELECT event_seq FROM tenants WHERE id = $1`, tenant)
	if err != nil {
		return 0, err
	}
	low, high := after, max(after, end) // what was made before surely is up to low
	for low < high {
		middle := low + (high-low)/2
		next, err := sqldb.All(ctx, s.reader(), scanFeedPlace, `SELECT seq, created_at FROM events
			WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT 1`, tenant, middle)
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
		AND created_at >= $3 ORDER BY seq LIMIT 1`, tenant, low, at.UnixMicro())
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

// FeedEnd is the seq of the tenant's newest event, and its id: FeedStart where there is none, and
// where the feed begins if it was deleted.
func (s *Store) FeedEnd(ctx context.Context, tenantID string) (seq int64, eventID string, err error) {
	defer wrapf(&err, "end of the feed")
	var deleted string
	_, err = sqldb.One(ctx, s.reader(), func(row sqldb.Row) (bool, error) {
		return true, row.Scan(&seq, prefixEvent.scan(&eventID), prefixEvent.scan(&deleted))
	}, `SELECT t.event_seq, e.id, s.event_id FROM tenants t
		LEFT JOIN events e ON e.tenant_id = t.id AND e.seq = t.event_seq
		LEFT JOIN feed_starts s ON s.tenant_id = t.id WHERE t.id = $1`, prefixTenant.arg(tenantID))
	switch {
	case eventID != "":
	case deleted != "":
		eventID = nextID(prefixEvent, deleted)
	default:
		eventID = FeedStart
	}
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
		err := row.Scan(prefixTenant.scan(&id), &seq)
		ends[id] = seq
		return err
	}, `SELECT id, event_seq FROM tenants WHERE `+s.db.InNumbers(&args, "id", prefixTenant.args(tenantIDs)), args...)
	return ends, err
}
