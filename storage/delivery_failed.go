package storage

import (
	"context"
	"maps"
	"slices"
	"time"

	"oprelay/storage/sqldb"
)

const (
	// failedEvery is how often an event tells of a destination's failed deliveries at most.
	failedEvery = time.Hour
	// failedGather is how long the first failing waits for others, so that a burst is told as one.
	failedGather = 5 * time.Second
)

// untold is deliveries of a destination that have failed for good and that no event has told of.
type untold struct {
	count  int
	since  time.Time // when the oldest of them was made, by the wall clock
	toldAt time.Time // steady, failedEvery before they may be told of; zero for never
}

func (u *untold) scans() []any {
	return []any{&u.count, sqldb.Time(&u.since), sqldb.Time(&u.toldAt)}
}

// add counts a delivery that was made at a time by the wall clock, and has failed by now.
func (u *untold) add(made, now time.Time) {
	if first := now.Add(failedGather - failedEvery); u.count == 0 && u.toldAt.Before(first) {
		u.toldAt = first
	}
	if u.count++; u.since.IsZero() || made.Before(u.since) {
		u.since = made
	}
}

// tellFailed tells the alerts destinations, but for those that fail themselves, of the
// destinations whose failed deliveries may be told of now. Their rows are locked.
func (tx *transaction) tellFailed(ctx context.Context, records map[string]*health) error {
	now := tx.db.steady()
	var alerts []event
	for _, id := range slices.Sorted(maps.Keys(records)) {
		h := records[id]
		if h == nil || h.untold.count == 0 || now.Sub(h.untold.toldAt) < failedEvery {
			continue
		}
		body, err := renderBody(EventDeliveryFailed, tx.db.now(), deliveryFailedData{
			DestinationID: id, Name: h.name, Count: h.untold.count, Since: h.untold.since, LastError: optional(h.lastError),
		})
		if err != nil {
			return err
		}
		alert, err := tx.alert(ctx, event{tenantID: h.tenantID, kind: EventDeliveryFailed, body: body}, id)
		if err != nil {
			return err
		}
		alerts = append(alerts, alert)
		h.untold, h.changed = untold{toldAt: now}, true
	}
	return tx.publish(alerts)
}

// TellFailed tells of the deliveries that have failed for good: the first of a destination a few
// seconds later, together with what fails in between, and what fails in the hour after that when
// it is over. It tells of up to limit destinations, and says of how many.
func (s *Store) TellFailed(ctx context.Context, limit int) (n int, err error) {
	defer wrapf(&err, "tell of failed deliveries")
	const due = `SELECT id FROM destinations WHERE failed_untold > 0 AND failed_told_at <= $1 AND deleted_at IS NULL
		ORDER BY failed_told_at LIMIT $2`
	before := s.db.steady().Add(-failedEvery).UnixMicro()
	ids, err := sqldb.All(ctx, s.reader(), prefixDestination.read, due, before, limit)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	err = s.write(ctx, func(tx *transaction) error {
		now := func(each func(sqldb.Row) error, query string, args ...any) error {
			_, err := tx.Query(ctx, each, query, args...)
			return err
		}
		records, err := tx.lockHealth(ids, tx.ForUpdate+tx.SkipLocked, now)
		if err != nil {
			return err
		}
		n = len(ids)
		if err := tx.tellFailed(ctx, records); err != nil {
			return err
		}
		return tx.writeHealth(records)
	})
	return n, err
}
