package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"oprelay/storage/sqldb"
)

// What is old is deleted in walks: each goes through the watches that have ended in the order of
// their ids, which is that of their registration, and then through events that are about no watch. What is not to go
// yet is passed over until the next walk. How far the walk has come is in a row that all
// processes share: so one of them works at a time, and another goes on if that one dies.
const (
	// deleteMost is how many watches, or events, one transaction deletes. In SQLite all that
	// writes waits for it; PostgreSQL takes about as long for five hundred as for a hundred.
	deleteMost       = 500
	deleteMostSQLite = 50
	// lookMost is how many rows a step looks at.
	lookMost = 2000
	// The next walk begins after this part of the time that rows are kept.
	walkPart  = 100
	walkLeast = time.Second
	walkMost  = time.Hour
	// passPause follows a step that found little: so it costs little to pass over any number
	// of watches that are open.
	passPause = 50 * time.Millisecond
	// elsewherePause is the pause of a process while another one walks.
	elsewherePause = 5 * time.Second
	// shrinkMost is how many pages SQLite gives back at a time: more than one step frees.
	shrinkMost = 200
)

// The kinds of rows that are deleted, for Counters.
const (
	DeletedWatches       = "watches"
	DeletedOperations    = "operations"
	DeletedEvents        = "events"
	DeletedDeliveries    = "deliveries"
	DeletedAttempts      = "attempts"
	DeletedSlackMessages = "slack_messages"
	deletedBeside        = "beside" // what belongs to these; not counted
)

// DeleteOld deletes some of what ended longer ago than keep: watches with their events,
// deliveries, attempts and Slack references, operations that no watch refers to any more, and
// events that are about no watch. What waits, or is held, or was sent since, stays with all that
// belongs to it. It returns how long to pause before the next call. Any number of processes may call it.
func (s *Store) DeleteOld(ctx context.Context, keep time.Duration) (pause time.Duration, err error) {
	defer wrapf(&err, "delete what is old")
	began := time.Now()
	at, err := s.walk(ctx, s.reader(), "")
	if err != nil {
		return 0, err
	}
	every := min(max(keep/walkPart, walkLeast), walkMost)
	if wait := at.ended.Add(every).Sub(s.db.steady()); at.to == "" && wait > 0 {
		return min(wait, every), nil
	}
	before := s.db.oldBefore(keep)
	most := deleteMost
	if s.db.OneProcess {
		most = deleteMostSQLite
	}
	found, next, err := s.findOld(ctx, at.to, before, most)
	if err != nil {
		return 0, err
	}
	err = s.write(ctx, func(tx *transaction) error {
		now, err := s.walk(ctx, tx, tx.ForUpdate+tx.SkipLocked)
		if err == nil && now != at {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := tx.deleteFound(ctx, found, before); err != nil {
			return err
		}
		if now.to == "" {
			now.began = before
		}
		return tx.walkTo(next, now.began)
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return elsewherePause, nil
	case err != nil:
		return 0, err
	}
	if pause = passPause; len(found) == most {
		pause = time.Since(began) // leaves others half of the time
	}
	return pause, s.db.Shrink(ctx, shrinkMost)
}

// oldBefore is the time before which what has ended is old, by the wall clock. One that is
// set forward makes nothing old: it is compared with the steady clock for once, to go by the
// one that is behind.
func (db *database) oldBefore(keep time.Duration) time.Time {
	now := db.now()
	if steady := db.steady(); steady.Before(now) {
		now = steady
	}
	return now.Add(-keep)
}

// walk is how far the walk has come.
type walk struct {
	to    string    // an id; "" between two walks
	began time.Time // what ended before, by the wall clock, this walk is to delete
	ended time.Time // when the last one did, steady
}

func (s *Store) walk(ctx context.Context, q sqldb.Querier, lock string) (walk, error) {
	return sqldb.One(ctx, q, func(row sqldb.Row) (w walk, err error) {
		err = row.Scan(&w.to, sqldb.Time(&w.began), sqldb.Time(&w.ended))
		return w, err
	}, `SELECT walked_to, began, ended_at FROM retention WHERE id = 1`+lock)
}

// walkTo writes how far the walk has come.
func (tx *transaction) walkTo(to string, began time.Time) error {
	if to != "" {
		return tx.Later(`UPDATE retention SET walked_to = $1, began = $2 WHERE id = 1`, to, began.UnixMicro())
	}
	return tx.Later(`UPDATE retention SET walked_to = '', began = $1, done = $1, ended_at = $2 WHERE id = 1`,
		began.UnixMicro(), tx.db.steady().UnixMicro())
}

// oldRow is a watch that has ended, or an event that is about none.
type oldRow struct {
	watchID, operationRef string // "" for an event
	eventID               string // "" for a watch without one
}

func scanOldRow(row sqldb.Row) (o oldRow, err error) {
	err = row.Scan(prefixWatch.scan(&o.watchID), prefixOperation.scan(&o.operationRef), prefixEvent.scan(&o.eventID))
	return o, err
}

// oldRows are the watches that have ended, or the events: in which table they are, and a query
// that finds what is old among the $3 of them after an id, at most $5.
type oldRows struct{ table, id, query string }

func oldWatches() oldRows {
	return oldRows{"watch_ends", "watch_id", `SELECT e.watch_id, w.operation_ref, e.event_id FROM (
			SELECT watch_id, event_id FROM (SELECT watch_id, event_id, finished_at
			FROM watch_ends WHERE watch_id > $1 AND watch_id < $2 ORDER BY watch_id LIMIT $3) AS oldest
			WHERE finished_at < $4 ORDER BY watch_id LIMIT $5) AS e
		JOIN watches w ON w.id = e.watch_id ORDER BY e.watch_id`}
}

func oldEvents() oldRows {
	return oldRows{"events", "id", `SELECT NULL, NULL, id FROM (SELECT id, watch_id, created_at
		FROM events WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3) AS oldest
		WHERE watch_id IS NULL AND created_at < $4 ORDER BY id LIMIT $5`}
}

// findOld finds what comes next in the walk, and how far it has come then: "" at its end.
func (s *Store) findOld(ctx context.Context, to string, before time.Time, most int) (found []oldRow, next string, err error) {
	events := firstID(prefixEvent, time.Time{})
	old, of, after := oldWatches(), prefixWatch, events
	if strings.HasPrefix(to, string(prefixEvent)) {
		old, of, after = oldEvents(), prefixEvent, ""
	}
	begin, end := of.arg(cmp.Or(to, firstID(of, time.Time{}))), of.arg(firstID(of, before))
	found, err = sqldb.All(ctx, s.reader(), scanOldRow, old.query, begin, end, lookMost, before.UnixMicro(), most)
	if n := len(found); err != nil || n == most {
		if n > 0 {
			next = found[n-1].id()
		}
		return found, next, err
	}
	last, err := sqldb.All(ctx, s.reader(), of.read, `SELECT `+old.id+` FROM `+old.table+`
		WHERE `+old.id+` > $1 AND `+old.id+` < $2 ORDER BY `+old.id+` LIMIT 1 OFFSET $3`, begin, end, lookMost-1)
	if len(last) > 0 {
		after = last[0]
	}
	return found, after, err
}

func (o oldRow) id() string {
	if o.watchID != "" {
		return o.watchID
	}
	return o.eventID
}

// deliveryStays says whether a delivery, whose row is locked, waits or has ended since %s: then
// its event and its watch have to stay. These are no joins and no EXISTS, so that each is a
// look-up by key whatever the planner takes the tables for.
const deliveryStays = `((SELECT id FROM waiting_deliveries w WHERE w.id = deliveries.id) IS NOT NULL
	OR COALESCE((SELECT finished_at FROM unaccepted_deliveries u WHERE u.id = deliveries.id), 0) >= %[1]s
	OR COALESCE((SELECT MAX(a.started_at + a.duration) FROM attempts a WHERE a.delivery_id = deliveries.id), 0) >= %[1]s)`

// deleteFound deletes of what was found all that does not wait and has had no attempt since. It waits for no row: what
// another transaction has locked stays until the next walk.
func (tx *transaction) deleteFound(ctx context.Context, found []oldRow, since time.Time) error {
	found, open, err := tx.lockOperationsOf(ctx, found)
	if err != nil {
		return err
	}
	found, deliveryIDs, err := tx.lockSettled(ctx, found, since)
	if err != nil || len(found) == 0 {
		return err
	}
	watchIDs, _, events := keysOf(found)
	watches, deliveries := prefixWatch.args(watchIDs), prefixDelivery.args(deliveryIDs)
	tx.deleted = map[string]int{}
	for _, rows := range []struct {
		kind, query, key string
		keys             []sqldb.UUID
		tail             string
	}{
		{DeletedAttempts, `DELETE FROM attempts WHERE `, "delivery_id", deliveries, ``},
		{deletedBeside, `DELETE FROM unaccepted_deliveries WHERE `, "id", deliveries, ``},
		{DeletedDeliveries, `DELETE FROM deliveries WHERE `, "id", deliveries, ``},
		{DeletedSlackMessages, `DELETE FROM slack_messages WHERE `, "watch_id", watches, ``},
		{deletedBeside, `DELETE FROM watch_destinations WHERE `, "watch_id", watches, ``},
		{deletedBeside, `DELETE FROM uncompleted_watches WHERE (tenant_id, status, watch_id) IN (
			SELECT w.tenant_id, e.status, e.watch_id FROM watch_ends e JOIN watches w ON w.id = e.watch_id
			WHERE e.status <> 'completed' AND `, "e.watch_id", watches, `)`},
		{deletedBeside, `DELETE FROM watch_ends WHERE `, "watch_id", watches, ``},
		{DeletedWatches, `DELETE FROM watches WHERE `, "id", watches, ``},
	} {
		if len(rows.keys) == 0 {
			continue
		}
		var args sqldb.Args
		query := rows.query + tx.In(&args, rows.key, rows.keys) + rows.tail
		if tx.deleted[rows.kind], err = sqldb.ExecCount(ctx, tx, query, args...); err != nil {
			return err
		}
	}
	if err := tx.deleteOperationsOf(ctx, found, open); err != nil {
		return err
	}
	return tx.deleteEvents(ctx, events)
}

// deleteOperationsOf counts the watches that are deleted off their operations, some of which are
// open, and deletes those of which none is left.
func (tx *transaction) deleteOperationsOf(ctx context.Context, found []oldRow, open map[string]bool) error {
	watches := map[string]int{}
	for _, o := range found {
		if o.operationRef != "" {
			watches[o.operationRef]++
		}
	}
	var all, going [][]any
	for _, id := range slices.Sorted(maps.Keys(watches)) {
		row := []any{prefixOperation.arg(id), watches[id]}
		if all = append(all, row); open[id] {
			going = append(going, row)
		}
	}
	if len(all) == 0 {
		return nil
	}
	var args sqldb.Args
	n, err := sqldb.ExecCount(ctx, tx, `DELETE FROM operations WHERE id IN (SELECT o.id FROM `+tx.Values(&args, all)+`
		JOIN operations o ON o.id = v.column1 WHERE o.watches <= v.column2)`, args...)
	if tx.deleted[DeletedOperations] = n; err != nil || n == len(all) {
		return err
	}
	return errors.Join(tx.countOff("operations", all), tx.countOff("open_operations", going))
}

func (tx *transaction) countOff(table string, watches [][]any) error {
	return tx.UpdateRows(sqldb.RowsUpdate{
		Head: `UPDATE ` + table + ` SET watches = ` + table + `.watches - v.column2`,
		Key:  table + ".id", Rows: watches, Tail: `WHERE TRUE`,
	})
}

// lockOperationsOf locks those operations of the watches that are open, as whoever locks watches
// does, and leaves out those whose operations others have locked. What is over is retention's alone.
func (tx *transaction) lockOperationsOf(ctx context.Context, found []oldRow) (rest []oldRow, open map[string]bool, err error) {
	_, operations, _ := keysOf(found)
	if len(operations) == 0 {
		return found, nil, nil
	}
	locked, _, err := tx.lock(ctx, operations, false)
	if err != nil {
		return nil, nil, err
	}
	var args sqldb.Args
	over, err := sqldb.All(ctx, tx, prefixOperation.read, `SELECT id FROM operations WHERE `+
		tx.In(&args, "id", prefixOperation.args(operations)), args...)
	open = map[string]bool{}
	for _, id := range locked {
		open[id] = true
	}
	isOver := map[string]bool{}
	for _, id := range over {
		isOver[id] = true
	}
	return slices.DeleteFunc(slices.Clone(found), func(o oldRow) bool {
		return o.operationRef != "" && !open[o.operationRef] && !isOver[o.operationRef]
	}), open, err
}

// lockSettled leaves out what has to stay, and locks and returns the deliveries of the others.
func (tx *transaction) lockSettled(
	ctx context.Context, found []oldRow, since time.Time,
) (settled []oldRow, deliveries []string, err error) {
	watches, _, events := keysOf(found)
	behind, err := tx.behindAmong(ctx, watches)
	if err != nil {
		return nil, nil, err
	}
	ofEvent, stays, err := tx.lockDeliveriesOf(ctx, events, since)
	for _, o := range found {
		if !behind[o.watchID] && !stays[o.eventID] {
			settled, deliveries = append(settled, o), append(deliveries, ofEvent[o.eventID]...)
		}
	}
	return settled, deliveries, err
}

// keysOf are the keys of what was found.
func keysOf(found []oldRow) (watches, operations, events []string) {
	for _, o := range found {
		if o.watchID != "" {
			watches, operations = append(watches, o.watchID), append(operations, o.operationRef)
		}
		if o.eventID != "" {
			events = append(events, o.eventID)
		}
	}
	slices.Sort(operations)
	return watches, slices.Compact(operations), events
}

// behindAmong are those of the watches whose messages in Slack do not show yet how they ended.
func (tx *transaction) behindAmong(ctx context.Context, watches []string) (map[string]bool, error) {
	var args sqldb.Args
	behind := map[string]bool{}
	_, err := tx.Query(ctx, func(row sqldb.Row) error {
		id, err := prefixWatch.read(row)
		behind[id] = true
		return err
	}, `SELECT watch_id FROM slack_messages WHERE `+tx.In(&args, "watch_id", prefixWatch.args(watches))+` AND due_at IS NOT NULL`, args...)
	return behind, err
}

// lockDeliveriesOf locks the deliveries of the events, so that none of them is redelivered, and
// returns them by their events, and which events have one that has to stay, or that another transaction
// has locked. No event gets another delivery.
func (tx *transaction) lockDeliveriesOf(
	ctx context.Context, events []string, since time.Time,
) (ofEvent map[string][]string, stays map[string]bool, err error) {
	var args sqldb.Args
	these := ` FROM deliveries WHERE ` + tx.In(&args, "event_id", prefixEvent.args(events))
	locked := map[string]bool{}
	_, err = tx.Query(ctx, func(row sqldb.Row) error {
		id, err := prefixDelivery.read(row)
		locked[id] = true
		return err
	}, `SELECT id`+these+` ORDER BY id`+tx.ForDelete+tx.SkipLocked, args...)
	if err != nil {
		return nil, nil, err
	}
	ofEvent, stays = map[string][]string{}, map[string]bool{}
	_, err = tx.Query(ctx, func(row sqldb.Row) error { // only now: what was committed until the lock is seen
		var id, eventID string
		var stay bool
		err := row.Scan(prefixDelivery.scan(&id), prefixEvent.scan(&eventID), &stay)
		ofEvent[eventID] = append(ofEvent[eventID], id)
		stays[eventID] = stays[eventID] || stay || !locked[id]
		return err
	}, `SELECT id, event_id, `+fmt.Sprintf(deliveryStays, args.Add(since.UnixMicro()))+these, args...)
	return ofEvent, stays, err
}

// deleteEvents deletes events, and has the feeds begin after them.
func (tx *transaction) deleteEvents(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	var args sqldb.Args
	last := map[string]feedStart{} // by tenant
	n, err := tx.Query(ctx, func(row sqldb.Row) error {
		var tenantID string
		var e feedStart
		err := row.Scan(prefixTenant.scan(&tenantID), &e.seq, prefixEvent.scan(&e.id), sqldb.Time(&e.at))
		if e.seq > last[tenantID].seq {
			last[tenantID] = e
		}
		return err
	}, `DELETE FROM events WHERE `+tx.In(&args, "id", prefixEvent.args(ids))+` RETURNING tenant_id, seq, id, created_at`, args...)
	if err != nil {
		return err
	}
	tx.deleted[DeletedEvents] = n
	var rows [][]any
	for _, tenantID := range slices.Sorted(maps.Keys(last)) {
		e := last[tenantID]
		rows = append(rows, []any{prefixTenant.arg(tenantID), e.seq, prefixEvent.arg(e.id), e.at.UnixMicro()})
	}
	return tx.Upsert(`INSERT INTO feed_starts (tenant_id, seq, event_id, created_at)`, ` ON CONFLICT (tenant_id)
		DO UPDATE SET seq = excluded.seq, event_id = excluded.event_id, created_at = excluded.created_at
		WHERE feed_starts.seq < excluded.seq`, rows, nil)
}

// Kept is what retention has left.
type Kept struct {
	Oldest time.Time     // when the oldest watch was registered; zero if there is none
	Behind time.Duration // for how long something has been there that was to be deleted, at most
}

// Kept says what is left with retention for so long.
func (s *Store) Kept(ctx context.Context, keep time.Duration) (k Kept, err error) {
	defer wrapf(&err, "what is kept")
	oldest, err := sqldb.All(ctx, s.reader(), sqldb.Int, `SELECT created_at FROM watches WHERE id > $1 ORDER BY id LIMIT 1`,
		prefixWatch.arg(firstID(prefixWatch, time.Time{})))
	if err != nil {
		return Kept{}, err
	}
	if len(oldest) > 0 {
		k.Oldest = time.UnixMicro(oldest[0]).UTC()
	}
	done, err := sqldb.One(ctx, s.reader(), func(row sqldb.Row) (at time.Time, err error) {
		return at, row.Scan(sqldb.Time(&at))
	}, `SELECT done FROM retention WHERE id = 1`)
	if done.IsZero() { // no walk has come to its end yet
		done = k.Oldest
	}
	if before := s.db.oldBefore(keep); err == nil && !done.IsZero() && done.Before(before) {
		k.Behind = before.Sub(done)
	}
	return k, err
}
