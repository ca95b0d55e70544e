package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"oprelay/storage/sqldb"
)

// SlackRef identifies a message in Slack.
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
	CreatedAt     time.Time // by the wall clock
	Body          []byte    // of a message: see LoadMessages
	AttemptsMade  int
	Step          int           // steps of the retry schedule used since it last began
	Postponed     time.Duration // how long attempts that used no step have put it off since then
	Watch         *Watch        // of a message: see LoadMessages; nil for an event that is not about a watch
	Traceparent   string        // of the registration; "" for none; of a message: see LoadMessages
	Slack         SlackRef      // the watch's message at a bot destination, if there is one
}

// TakeDeliveries asks for work of a deliver group.
type TakeDeliveries struct {
	Group   string // the destination's id
	Owner   string
	Max     int
	Exclude map[string]bool // ids of the deliveries (for DueProgress, the watches) in flight
}

// dueColumns are what a claim reads of the deliveries before it joins.
const dueColumns = `id, destination_id, event_id, event_type, tenant_id, watch_id, created_at,
	attempts_made, step, postponed, next_attempt_at`

// ofDueDelivery are the columns that a claim reads of a delivery; both of the selections have %s
// for the deliveries.
const (
	ofDueDelivery = `d.id, d.destination_id, d.event_id, d.event_type, d.tenant_id, d.watch_id, d.created_at,
		d.attempts_made, d.step, d.postponed, `
	selectDueDelivery = `SELECT ` + ofDueDelivery + `e.body, e.traceparent FROM %s d JOIN events e ON e.id = d.event_id `
	selectDueMessage  = `SELECT ` + ofDueDelivery + `m.channel, m.ts FROM %s d
		LEFT JOIN slack_messages m ON m.watch_id = d.watch_id AND m.destination_id = d.destination_id `
)

func scanDueDelivery(row sqldb.Row) (d DueDelivery, err error) {
	err = d.scan(row, &d.Body, sqldb.Text(&d.Traceparent))
	return d, err
}

func scanDueMessage(row sqldb.Row) (d DueDelivery, err error) {
	err = d.scan(row, sqldb.Text(&d.Slack.Channel), sqldb.Text(&d.Slack.TS))
	return d, err
}

func (d *DueDelivery) scan(row sqldb.Row, more ...any) error {
	var postponed int64
	err := row.Scan(append([]any{
		prefixDelivery.scan(&d.ID), prefixDestination.scan(&d.DestinationID), prefixEvent.scan(&d.EventID), &d.EventType,
		prefixTenant.scan(&d.TenantID), prefixWatch.scan(&d.WatchID), sqldb.Time(&d.CreatedAt),
		&d.AttemptsMade, &d.Step, &postponed,
	}, more...)...)
	d.Postponed = time.Duration(postponed) * time.Microsecond
	return err
}

// DueDeliveries returns up to Max deliveries to attempt at a webhook, by due time. First attempts
// come before retries, but a quarter of the places is for retries, so that neither wait behind
// all of the other. There are none while the destination is disabled or deleted: then some
// are held or canceled here. ErrLeaseLost if Owner does not hold the lease.
//
// It needs no transaction: only the holder of the lease changes these rows. That saves a third
// of the round trips, and leaves SQLite's writing connection to others.
func (s *Store) DueDeliveries(ctx context.Context, take TakeDeliveries) (_ []DueDelivery, err error) {
	defer wrapf(&err, "due deliveries of %s", take.Group)
	ready, err := s.readyDestination(ctx, take)
	if err != nil || !ready {
		return nil, err
	}
	due, err := s.dueAt(ctx, take, selectDueDelivery, scanDueDelivery)
	return Share(due, take.Max), err
}

// DueMessages is DueDeliveries for a Slack destination, where one message may tell of many. It
// returns up to Max first attempts, and up to Max retries, without what LoadMessages reads. If
// that leaves some out, up to Max follow that tell of something other than a completed operation.
func (s *Store) DueMessages(ctx context.Context, take TakeDeliveries) (_ []DueDelivery, err error) {
	defer wrapf(&err, "due messages of %s", take.Group)
	ready, err := s.readyDestination(ctx, take)
	if err != nil || !ready {
		return nil, err
	}
	due, err := s.dueAt(ctx, take, selectDueMessage, scanDueMessage)
	if err != nil || len(due) < take.Max {
		return due, err
	}
	urgent, err := s.urgentMessages(ctx, take)
	known := make(map[string]bool, len(due))
	for i := range due {
		known[due[i].ID] = true
	}
	return append(due, without(urgent, known, take.Max, func(d DueDelivery) string { return d.ID })...), err
}

// urgentMessages returns up to Max deliveries that are due and tell of something other than a
// completed operation.
func (s *Store) urgentMessages(ctx context.Context, take TakeDeliveries) ([]DueDelivery, error) {
	args := sqldb.Args{prefixDestination.arg(take.Group), s.db.steady().UnixMicro(), take.Max}
	urgent := `(SELECT ` + dueColumns + ` FROM waiting_deliveries WHERE destination_id = $1
		AND event_type <> 'operation.completed' AND next_attempt_at <= $2` + s.notInFlight(take, &args) + ` ORDER BY next_attempt_at LIMIT $3)`
	return sqldb.All(ctx, s.reader(), scanDueMessage, fmt.Sprintf(selectDueMessage, urgent)+`ORDER BY d.next_attempt_at, d.id`, args...)
}

func (s *Store) notInFlight(take TakeDeliveries, args *sqldb.Args) string {
	if len(take.Exclude) == 0 {
		return ""
	}
	return ` AND NOT (` + s.db.In(args, "id", prefixDelivery.args(slices.Collect(maps.Keys(take.Exclude)))) + `)`
}

// LoadMessages reads what the messages of these deliveries show: bodies and watches.
func (s *Store) LoadMessages(ctx context.Context, due []DueDelivery) (err error) {
	defer wrapf(&err, "load %d messages", len(due))
	var args sqldb.Args
	var watchIDs []string
	ids, byEvent := make([]string, len(due)), make(map[string]*DueDelivery, len(due))
	for i := range due {
		ids[i], byEvent[due[i].EventID] = due[i].EventID, &due[i]
		if due[i].WatchID != "" {
			watchIDs = append(watchIDs, due[i].WatchID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err = s.reader().Query(ctx, func(row sqldb.Row) error {
		var id, traceparent string
		var body []byte
		err := row.Scan(prefixEvent.scan(&id), &body, sqldb.Text(&traceparent))
		if d := byEvent[id]; d != nil {
			d.Body, d.Traceparent = body, traceparent
		}
		return err
	}, `SELECT id, body, traceparent FROM events WHERE `+s.db.In(&args, "id", prefixEvent.args(ids)), args...)
	if err != nil || len(watchIDs) == 0 {
		return err
	}
	watches, err := s.db.readWatches(ctx, s.reader(), watchIDs)
	for i := range due {
		if w, ok := watches[due[i].WatchID]; ok {
			due[i].Watch = &w
		}
	}
	return err
}

// readyDestination says whether a destination may be sent to, and has its deliveries follow
// its state if some do not yet.
func (s *Store) readyDestination(ctx context.Context, take TakeDeliveries) (ready bool, err error) {
	var applied bool
	ready, err = sqldb.One(ctx, s.reader(), func(row sqldb.Row) (ready bool, err error) {
		err = row.Scan(&ready, &applied)
		return ready, err
	}, `SELECT d.status = 'enabled' AND d.deleted_at IS NULL, NOT (`+stateNotApplied+`)
		FROM work_groups g JOIN destinations d ON d.id = $1
		WHERE g.kind = 'deliver' AND g.id = $2 AND g.owner = $3 AND g.leased_until > $4`,
		prefixDestination.arg(take.Group), take.Group, take.Owner, s.db.steady().UnixMicro())
	switch {
	case errors.Is(err, ErrNotFound):
		return false, ErrLeaseLost
	case err != nil || applied:
		return ready, err
	}
	return ready, s.write(ctx, func(tx *transaction) error { return tx.applyState(ctx, take.Group) })
}

// dueAt returns up to Max first attempts that are due, and after them up to Max retries. It
// limits before it joins, so that it reads no more bodies than it returns.
func (s *Store) dueAt(
	ctx context.Context, take TakeDeliveries, selection string, scan func(sqldb.Row) (DueDelivery, error),
) ([]DueDelivery, error) {
	args := sqldb.Args{prefixDestination.arg(take.Group), s.db.steady().UnixMicro(), take.Max}
	inFlight := s.notInFlight(take, &args)
	due := func(turn string) string {
		return `SELECT ` + dueColumns + ` FROM (SELECT ` + dueColumns + ` FROM waiting_deliveries WHERE destination_id = $1
			AND turn = '` + turn + `' AND next_attempt_at <= $2` + inFlight + ` ORDER BY next_attempt_at LIMIT $3) AS due`
	}
	all := `(` + due(turnFirst) + ` UNION ALL ` + due(turnAgain) + `)`
	return sqldb.All(ctx, s.reader(), scan, fmt.Sprintf(selection, all)+
		`ORDER BY d.step > 0, d.next_attempt_at, d.id`, args...)
}

// Share fills limit places with first attempts, which come first, and leaves a quarter to
// retries. Fractions are drawn by lot: a single place is a retry's every fourth time.
func Share(due []DueDelivery, limit int) []DueDelivery {
	split := slices.IndexFunc(due, func(d DueDelivery) bool { return d.Step > 0 })
	if split < 0 {
		split = len(due)
	}
	first, again := due[:split:split], due[split:]
	kept := min(len(again), (limit+rand.N(4))/4)
	first = first[:min(len(first), max(limit-kept, 0))]
	return append(first, again[:min(len(again), max(limit-len(first), 0))]...)
}
