package storage

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"oprelay/storage/sqldb"
)

// The states of a watch. It leaves WatchWatching once, for good.
const (
	WatchWatching     = "watching"
	WatchCompleted    = "completed"
	WatchFailed       = "failed"
	WatchExpired      = "expired"
	WatchUnobservable = "unobservable"
	WatchCanceled     = "canceled"
)

// Why a watch ended without the end of its operation.
const (
	ReasonDeadline           = "deadline"
	ReasonNotFound           = "not_found"
	ReasonCredentialRejected = "credential_rejected" //nolint:gosec // no credential
)

// Watch is a standing request to tell destinations how an operation ended.
// Polls, LastPolledAt and LastPollError are the operation's, which its watches share.
type Watch struct {
	ID             string
	TenantID       string
	Status         string
	Operation      Operation
	CredentialID   string
	DestinationIDs []string
	Events         []string
	Name           string // for people; "" for none
	Metadata       map[string]string
	Polls          int
	LastPolledAt   time.Time
	NextPollAt     time.Time // zero unless watching
	HeldBy         string    // why that is later than the operation's own interval: a HeldBy..., or ""
	LastPollError  string
	ExpiresAt      time.Time
	CreatedAt      time.Time
	FinishedAt     time.Time
	EventID        string
}

// What the next poll of an operation may wait for.
const (
	HeldByBudget    = "budget"             // which has to last for all operations that share it
	HeldByRateLimit = "rate_limited"       // of the upstream
	HeldByRefusal   = "credential_refused" // polls of one operation show when it is accepted again
)

const selectWatch = `SELECT w.id, w.tenant_id, COALESCE(e.status, 'watching'), w.credential_id, w.events, w.name, w.metadata,
	w.expires_at, w.created_at, e.finished_at, e.event_id, COALESCE(o.polls, p.polls),
	COALESCE(o.last_polled_at, p.last_polled_at), COALESCE(o.problem, p.problem), p.due_at, COALESCE(p.held, FALSE),
	c.refused_since IS NOT NULL, ` + closedUntil + `,
	CASE WHEN g.owner = '' THEN g.due_at END, ` + operationColumns + `
	FROM watches w LEFT JOIN watch_ends e ON e.watch_id = w.id ` + ofOperation + `
	JOIN credentials c ON c.id = w.credential_id LEFT JOIN budgets b ON b.id = p.budget_id
	LEFT JOIN work_groups g ON g.kind = 'poll' AND g.id = p.budget_id `

// closedUntil is until when the upstream allows no request of the budget b.
const closedUntil = `CASE WHEN b.hint_remaining = 0 AND b.hint_until > b.parked_until THEN b.hint_until ELSE b.parked_until END`

// nextPollOf is what is known of an operation's next poll.
type nextPollOf struct {
	due    time.Time
	held   bool      // by its budget
	refuse bool      // its credential is refused
	closed time.Time // until then the upstream allows no request
	group  time.Time // when its budget is worked on next; zero if it is now
}

// allEvents stands for the types of all events that a watch's end can make, in this order: most
// watches have them.
const allEvents = "all"

func typesOfEnds() []string {
	return []string{EventOperationCompleted, EventOperationFailed, EventOperationExpired, EventOperationUnobservable}
}

// eventsText is how the types of a watch's events are kept. All begin alike.
func eventsText(types []string) string {
	if slices.Equal(types, typesOfEnds()) {
		return allEvents
	}
	words := make([]string, len(types))
	for i, kind := range types {
		words[i] = strings.TrimPrefix(kind, eventOf(""))
	}
	return strings.Join(words, ",")
}

// scanEvents reads what eventsText wrote.
func scanEvents(into *[]string) sql.Scanner {
	return sqldb.ReadText(func(text string) {
		if text == allEvents {
			*into = typesOfEnds()
			return
		}
		*into = []string{}
		for word := range strings.SplitSeq(text, ",") {
			if word != "" {
				*into = append(*into, eventOf(word))
			}
		}
	})
}

func (db *database) scanWatch(row sqldb.Row) (Watch, error) {
	var w Watch
	var next nextPollOf
	err := row.Scan(append([]any{
		prefixWatch.scan(&w.ID), prefixTenant.scan(&w.TenantID), &w.Status, prefixCredential.scan(&w.CredentialID),
		scanEvents(&w.Events), sqldb.Text(&w.Name), sqldb.JSON(&w.Metadata),
		sqldb.Time(&w.ExpiresAt), sqldb.Time(&w.CreatedAt), sqldb.Time(&w.FinishedAt), prefixEvent.scan(&w.EventID),
		&w.Polls, sqldb.Time(&w.LastPolledAt), &w.LastPollError,
		sqldb.Time(&next.due), &next.held, &next.refuse, sqldb.Time(&next.closed), sqldb.Time(&next.group),
	}, w.Operation.columns()...)...)
	db.datePolls(&w, next)
	return w, err
}

// datePolls dates the last poll and, while the watch goes on, the next.
func (db *database) datePolls(w *Watch, next nextPollOf) {
	w.LastPolledAt = db.dated(w.LastPolledAt)
	if w.Status != WatchWatching {
		return
	}
	now, at := db.steady(), next.due
	waits := !at.After(now) && next.group.After(now) // what is due, for a budget that is spent
	switch {
	case next.closed.After(now):
		w.HeldBy = HeldByRateLimit
	case next.refuse:
		w.HeldBy = HeldByRefusal
	case next.held || waits:
		w.HeldBy = HeldByBudget
	}
	if next.closed.After(at) {
		at = next.closed
	}
	if !at.After(now) && waits {
		at = next.group
	}
	w.NextPollAt = db.dated(at)
}

// Watch returns one watch of the tenant.
func (s *Store) Watch(ctx context.Context, tenantID, id string) (_ Watch, err error) {
	defer wrapf(&err, "watch %s", id)
	return s.db.readWatch(ctx, s.reader(), tenantID, id)
}

func (db *database) readWatch(ctx context.Context, q sqldb.Querier, tenantID, id string) (Watch, error) {
	w, err := sqldb.One(ctx, q, db.scanWatch, selectWatch+`WHERE w.tenant_id = $1 AND w.id = $2`,
		prefixTenant.arg(tenantID), prefixWatch.arg(id))
	if err != nil {
		return Watch{}, err
	}
	one := []Watch{w}
	err = db.addDestinations(ctx, q, one)
	return one[0], err
}

// readWatches returns the watches of the ids, by id.
func (db *database) readWatches(ctx context.Context, q sqldb.Querier, ids []string) (map[string]Watch, error) {
	var args sqldb.Args
	watches, err := sqldb.All(ctx, q, db.scanWatch, selectWatch+`WHERE `+db.In(&args, "w.id", prefixWatch.args(ids)), args...)
	if err != nil {
		return nil, err
	}
	if err := db.addDestinations(ctx, q, watches); err != nil {
		return nil, err
	}
	byID := make(map[string]Watch, len(watches))
	for _, w := range watches {
		byID[w.ID] = w
	}
	return byID, nil
}

// addDestinations fills in the DestinationIDs, in the order of the request, without those
// that were deleted since.
func (db *database) addDestinations(ctx context.Context, q sqldb.Querier, watches []Watch) error {
	index := make(map[string]*Watch, len(watches))
	ids := make([]string, len(watches))
	for i := range watches {
		index[watches[i].ID], ids[i] = &watches[i], watches[i].ID
	}
	var args sqldb.Args
	_, err := q.Query(ctx, func(row sqldb.Row) error {
		var watchID, destinationID string
		err := row.Scan(prefixWatch.scan(&watchID), prefixDestination.scan(&destinationID))
		if w := index[watchID]; w != nil {
			w.DestinationIDs = append(w.DestinationIDs, destinationID)
		}
		return err
	}, `SELECT wd.watch_id, wd.destination_id FROM watch_destinations wd JOIN destinations d ON d.id = wd.destination_id
		WHERE `+db.In(&args, "wd.watch_id", prefixWatch.args(ids))+` AND d.deleted_at IS NULL ORDER BY wd.watch_id, wd.position`, args...)
	return err
}
