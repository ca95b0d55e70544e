package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
)

// SlackRef is where a message stands in Slack.
type SlackRef struct {
	Channel string
	TS      string
}

// DueDelivery is a delivery to attempt now.
type DueDelivery struct {
	ID           string
	EventID      string
	EventType    string
	TenantID     string
	WatchID      string
	Body         []byte
	AttemptsMade int
	Step         int      // attempts since the schedule last began: 0 before the first
	Watch        *Watch   // only for Slack, nil for an event that is not about a watch
	Traceparent  string   // of the registration; "" for none
	Slack        SlackRef // the watch's message at a bot destination, if there is one
}

// TakeDeliveries asks for work of a deliver group.
type TakeDeliveries struct {
	Group   string // the destination's id
	Owner   string
	Max     int
	Exclude map[string]bool // ids of deliveries (or, for DueProgress, of watches) in flight
}

const selectDueDelivery = `SELECT d.id, d.event_id, d.event_type, d.tenant_id, d.watch_id, e.body, d.attempts_made,
	d.step, e.traceparent, m.channel, m.ts FROM deliveries d JOIN events e ON e.id = d.event_id
	LEFT JOIN slack_messages m ON m.watch_id = d.watch_id AND m.destination_id = d.destination_id
	WHERE d.destination_id = $1 AND d.status = 'pending' AND d.next_attempt_at <= $2 `

func scanDueDelivery(row scanner) (DueDelivery, error) {
	var d DueDelivery
	err := row.Scan(&d.ID, &d.EventID, &d.EventType, &d.TenantID, textColumn{&d.WatchID}, &d.Body, &d.AttemptsMade,
		&d.Step, textColumn{&d.Traceparent}, textColumn{&d.Slack.Channel}, textColumn{&d.Slack.TS})
	return d, err
}

// DueDeliveries returns up to Max deliveries to attempt, by due time. First
// attempts come before retries, but a quarter is left to these: so neither
// waits behind all of the other. ErrLeaseLost if Owner does not hold the lease.
func (s *Store) DueDeliveries(ctx context.Context, take TakeDeliveries) (due []DueDelivery, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		if err := tx.holdLease(ctx, Group{DeliverGroup, take.Group}, take.Owner); err != nil {
			return err
		}
		due = nil
		kind, ready, err := tx.readyDestination(ctx, take.Group)
		if err != nil || !ready {
			return err
		}
		first, err := tx.dueDeliveries(ctx, take, `AND d.step = 0`)
		if err != nil {
			return err
		}
		again, err := tx.dueDeliveries(ctx, take, `AND d.step > 0`)
		if err != nil {
			return err
		}
		due = share(first, again, take.Max)
		if kind == KindSlack {
			return tx.addWatches(ctx, due)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("due deliveries of %s: %w", take.Group, err)
	}
	return due, nil
}

// readyDestination says whether a destination may be sent to. A delivery that
// was being written when its destination was disabled or deleted has missed
// being held or canceled then: that is made up for here.
func (tx *transaction) readyDestination(ctx context.Context, id string) (kind string, ready bool, err error) {
	var state string
	err = tx.QueryRowContext(ctx, `SELECT kind, CASE WHEN deleted_at IS NOT NULL THEN 'deleted' ELSE status END
		FROM destinations WHERE id = $1`, id).Scan(&kind, &state)
	if err != nil || state == DestinationEnabled {
		return kind, err == nil, err
	}
	if state == DestinationDisabled {
		return kind, false, tx.holdPending(ctx, id)
	}
	return kind, false, tx.cancelOpen(ctx, id)
}

func (tx *transaction) dueDeliveries(ctx context.Context, take TakeDeliveries, which string) ([]DueDelivery, error) {
	due, err := queryAll(ctx, tx, scanDueDelivery, selectDueDelivery+which+` ORDER BY d.next_attempt_at, d.id LIMIT $3`,
		take.Group, tx.db.steady().UnixMicro(), take.Max+len(take.Exclude))
	if err != nil {
		return nil, err
	}
	return without(due, take.Exclude, take.Max, func(d DueDelivery) string { return d.ID }), nil
}

// share fills limit places with first attempts, leaving a quarter to retries.
// What is not a whole place goes by lot: one place is a retry's every fourth time.
func share(first, again []DueDelivery, limit int) []DueDelivery {
	kept := min(len(again), (limit+rand.N(4))/4)
	first = first[:min(len(first), max(limit-kept, 0))]
	again = again[:min(len(again), max(limit-len(first), 0))]
	return append(first, again...)
}

// addWatches fills in the watches, which Slack's messages tell of.
func (tx *transaction) addWatches(ctx context.Context, due []DueDelivery) error {
	var ids []string
	for _, d := range due {
		if d.WatchID != "" {
			ids = append(ids, d.WatchID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	watches, err := tx.db.readWatches(ctx, tx, ids)
	for i := range due {
		if w, ok := watches[due[i].WatchID]; ok {
			due[i].Watch = &w
		}
	}
	return err
}
