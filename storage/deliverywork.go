package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// SlackRef is where a message stands in Slack.
type SlackRef struct {
	Channel string
	TS      string
}

// DueDelivery is a delivery to attempt now.
type DueDelivery struct {
	ID            string
	DestinationID string
	EventID       string
	EventType     string
	TenantID      string
	WatchID       string
	CreatedAt     time.Time // the event's, by the wall clock
	Body          []byte
	AttemptsMade  int
	Step          int      // attempts since the schedule last began: 0 before the first
	Watch         *Watch   // only for Slack, nil for an event that is not about a watch
	Traceparent   string   // of the registration; "" for none
	Slack         SlackRef // the watch's message at a bot destination, if there is one
}

// TakeDeliveries asks for work of a deliver group.
type TakeDeliveries struct {
	Group   string // the destination's id
	Owner   string
	Max     int
	Exclude map[string]bool // ids of deliveries (or, for DueProgress, of watches) in flight
}

// %s is the deliveries.
const selectDueDelivery = `SELECT d.id, d.destination_id, d.event_id, d.event_type, d.tenant_id, d.watch_id,
	e.created_at, e.body, d.attempts_made, d.step, e.traceparent, m.channel, m.ts FROM %s d JOIN events e ON e.id = d.event_id
	LEFT JOIN slack_messages m ON m.watch_id = d.watch_id AND m.destination_id = d.destination_id `

func scanDueDelivery(row scanner) (DueDelivery, error) {
	var d DueDelivery
	err := row.Scan(&d.ID, &d.DestinationID, &d.EventID, &d.EventType, &d.TenantID, textColumn{&d.WatchID}, timeColumn{&d.CreatedAt}, &d.Body,
		&d.AttemptsMade, &d.Step, textColumn{&d.Traceparent}, textColumn{&d.Slack.Channel}, textColumn{&d.Slack.TS})
	return d, err
}

// DueDeliveries returns up to Max deliveries to attempt, by due time. First
// attempts come before retries, but a quarter is left to these: so neither
// waits behind all of the other. None while the destination is disabled or deleted:
// then they are held or canceled here. ErrLeaseLost if Owner does not hold the lease.
func (s *Store) DueDeliveries(ctx context.Context, take TakeDeliveries) ([]DueDelivery, error) {
	due, err := s.dueDeliveries(ctx, take)
	if err != nil {
		return nil, fmt.Errorf("due deliveries of %s: %w", take.Group, err)
	}
	return due, nil
}

// dueDeliveries only reads, mostly: who holds the lease is alone with these rows.
func (s *Store) dueDeliveries(ctx context.Context, take TakeDeliveries) ([]DueDelivery, error) {
	kind, ready, err := s.readyDestination(ctx, take)
	if err != nil || !ready {
		return nil, err
	}
	due, err := s.dueAt(ctx, take)
	if err != nil {
		return nil, err
	}
	due = share(due, take.Max)
	if kind == KindSlack {
		return due, s.addWatches(ctx, due)
	}
	return due, nil
}

// readyDestination says whether a destination may be sent to, and settles some of its
// deliveries if need be.
func (s *Store) readyDestination(ctx context.Context, take TakeDeliveries) (kind string, ready bool, err error) {
	var settled bool
	kind, err = queryOne(ctx, s.reader(), func(row scanner) (kind string, err error) {
		err = row.Scan(&kind, &ready, &settled)
		return kind, err
	}, `SELECT d.kind, d.status = 'enabled' AND d.deleted_at IS NULL, NOT (`+unsettled+`)
		FROM work_groups g JOIN destinations d ON d.id = g.id
		WHERE g.kind = 'deliver' AND g.id = $1 AND g.owner = $2 AND g.leased_until > $3`,
		take.Group, take.Owner, s.db.steady().UnixMicro())
	switch {
	case errors.Is(err, ErrNotFound):
		return "", false, ErrLeaseLost
	case err != nil || settled:
		return kind, ready, err
	}
	return kind, ready, s.write(ctx, func(tx *transaction) error { return tx.settle(ctx, take.Group) })
}

// dueAt finds the deliveries by the index on what is due, up to Max first attempts and
// after them as many retries, and reads no more bodies than it returns.
func (s *Store) dueAt(ctx context.Context, take TakeDeliveries) ([]DueDelivery, error) {
	args := arguments{take.Group, s.db.steady().UnixMicro(), take.Max}
	inFlight := ""
	if len(take.Exclude) > 0 {
		inFlight = ` AND NOT (` + s.db.dialect.in(&args, "id", slices.Sorted(maps.Keys(take.Exclude))) + `)`
	}
	const ofDelivery = `id, destination_id, event_id, event_type, tenant_id, watch_id, attempts_made, step, next_attempt_at`
	due := func(step string) string {
		return `SELECT ` + ofDelivery + ` FROM (SELECT ` + ofDelivery + ` FROM deliveries WHERE destination_id = $1 AND status = 'pending'
			AND next_attempt_at <= $2 AND ` + step + inFlight + ` ORDER BY next_attempt_at LIMIT $3) AS due`
	}
	all := `(` + due("step = 0") + ` UNION ALL ` + due("step > 0") + `)`
	return queryAll(ctx, s.reader(), scanDueDelivery, fmt.Sprintf(selectDueDelivery, all)+
		`ORDER BY d.step > 0, d.next_attempt_at, d.id`, args...)
}

// share fills limit places with first attempts, which come first, leaving a quarter
// to retries. What is not a whole place goes by lot: one place is a retry's every
// fourth time.
func share(due []DueDelivery, limit int) []DueDelivery {
	split := slices.IndexFunc(due, func(d DueDelivery) bool { return d.Step > 0 })
	if split < 0 {
		split = len(due)
	}
	first, again := due[:split:split], due[split:]
	kept := min(len(again), (limit+rand.N(4))/4)
	first = first[:min(len(first), max(limit-kept, 0))]
	return append(first, again[:min(len(again), max(limit-len(first), 0))]...)
}

// addWatches fills in the watches, which Slack's messages tell of.
func (s *Store) addWatches(ctx context.Context, due []DueDelivery) error {
	var ids []string
	for _, d := range due {
		if d.WatchID != "" {
			ids = append(ids, d.WatchID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	watches, err := s.db.readWatches(ctx, s.reader(), ids)
	for i := range due {
		if w, ok := watches[due[i].WatchID]; ok {
			due[i].Watch = &w
		}
	}
	return err
}
