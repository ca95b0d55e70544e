package storage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"oprelay/storage/sqldb"
)

// NewWatch is what a watch is made from. Slices keep their order.
type NewWatch struct {
	TenantID       string
	Source         string
	Upstream       string            // the source's; the credential has to be for it
	Params         map[string]string // as the source asks for
	OperationID    string
	CredentialID   string
	DestinationIDs []string
	Events         []string
	Timeout        time.Duration
	Name           string // "" for none
	Metadata       map[string]string
	Traceparent    string // of the request (W3C Trace Context), "" if it is part of no trace
}

// operationKey is what makes watches share an operation's polls.
type operationKey struct {
	credentialID string
	identity     sqldb.UUID
}

// operationKey hashes source, parameters and id, which may be too long for an index.
func (n *NewWatch) operationKey() operationKey {
	hash := sha256.New()
	write := func(text string) { fmt.Fprintf(hash, "%d %s", len(text), text) }
	write(n.Source)
	write(n.OperationID)
	for _, name := range slices.Sorted(maps.Keys(n.Params)) {
		write(name)
		write(n.Params[name])
	}
	return operationKey{n.CredentialID, sqldb.UUID(hash.Sum(nil))}
}

// CreateWatches registers watches, all or none, and returns them in the order of the request.
// Their operations are polled at once, or planned with the others of a budget that does not
// afford it. ErrNotFound if a credential or a destination is not the tenant's, or deleted.
func (s *Store) CreateWatches(ctx context.Context, requested []NewWatch) (_ []Watch, err error) {
	defer wrapf(&err, "create watches")
	r := &registration{requested: requested}
	if err := s.registerAlone(ctx, r); err != nil {
		return nil, err
	}
	return r.made, nil
}

// createWatches makes watches whose references have been checked.
func (tx *transaction) createWatches(ctx context.Context, requested []NewWatch, refers references) ([]Watch, error) {
	operations, err := tx.openOperations(ctx, requested, refers)
	if err != nil {
		return nil, err
	}
	created, err := tx.insertWatches(requested, operations, refers)
	tx.registered += len(created)
	return created, err
}

// owned is a row that a watch refers to.
type owned struct {
	tenantID string
	upstream string    // of a credential
	budgetID string    // of a credential
	closed   time.Time // until then its budget is
	refused  bool      // the credential
	bot      bool      // of a destination: a Slack bot

	// Until firstPolls the budget affords no poll at once: a new operation waits for a part of
	// firstWait that differs by its phase.
	firstPolls time.Time
	firstWait  time.Duration
}

// references are the rows that watches refer to, by id.
type references struct{ credentials, destinations map[string]owned }

// references reads the rows that the registrations refer to, and locks them so that they are
// not deleted, and credentials get no other secret. No other change of them conflicts with
// this lock, nor does ForceDeleteDestination, which looks at no watches.
func (tx *transaction) references(ctx context.Context, all []*registration) (found references, err error) {
	credentials, destinations := map[string]bool{}, map[string]bool{}
	for _, r := range all {
		for i := range r.requested {
			credentials[r.requested[i].CredentialID] = true
			for _, id := range r.requested[i].DestinationIDs {
				destinations[id] = true
			}
		}
	}
	ofBudget := func(what string) string {
		return `(SELECT ` + what + ` FROM budgets b WHERE b.id = credentials.budget_id)`
	}
	found.credentials, err = tx.owned(ctx, `SELECT id, tenant_id, upstream, budget_id, FALSE, refused_since IS NOT NULL, `+
		ofBudget(closedUntil)+`, `+ofBudget("first_polls_at")+`, COALESCE(`+ofBudget("first_wait")+`, 0) FROM credentials`,
		prefixCredential, credentials)
	if err != nil {
		return references{}, err
	}
	found.destinations, err = tx.owned(ctx, `SELECT id, tenant_id, '', '', bot, FALSE, NULL, NULL, 0 FROM destinations`,
		prefixDestination, destinations)
	return found, err
}

func (tx *transaction) owned(
	ctx context.Context, selection string, p prefix, wanted map[string]bool,
) (map[string]owned, error) {
	var args sqldb.Args
	found := make(map[string]owned, len(wanted))
	_, err := tx.Query(ctx, func(row sqldb.Row) error {
		var id string
		var wait int64
		var o owned
		err := row.Scan(p.scan(&id), prefixTenant.scan(&o.tenantID), &o.upstream, &o.budgetID, &o.bot, &o.refused,
			sqldb.Time(&o.closed), sqldb.Time(&o.firstPolls), &wait)
		o.firstWait = time.Duration(wait) * time.Microsecond
		found[id] = o
		return err
	}, selection+` WHERE `+tx.In(&args, "id", p.args(slices.Sorted(maps.Keys(wanted))))+` AND deleted_at IS NULL
		ORDER BY id`+tx.ForKey, args...)
	return found, err
}

// check is ErrNotFound unless the watches refer to rows of their own tenant only, and
// ErrOtherUpstream if a credential is not for the source.
func (f references) check(requested []NewWatch) error {
	for i := range requested {
		n := &requested[i]
		if c, ok := f.credentials[n.CredentialID]; !ok || c.tenantID != n.TenantID {
			return fmt.Errorf("credential %s: %w", n.CredentialID, ErrNotFound)
		} else if c.upstream != n.Upstream {
			return fmt.Errorf("credential %s: %w", n.CredentialID, ErrOtherUpstream)
		}
		for _, id := range n.DestinationIDs {
			if d, ok := f.destinations[id]; !ok || d.tenantID != n.TenantID {
				return fmt.Errorf("destination %s: %w", id, ErrNotFound)
			}
		}
	}
	return nil
}

// openedOperation is an open operation that new watches are for.
type openedOperation struct {
	key   operationKey
	ref   string
	watch Watch // what its watches show of it
}

// firstPoll is when to poll a new operation of the credential, and whether that is later than
// at once.
func (o owned) firstPoll(operationID string, now time.Time) (at time.Time, held bool) {
	if !o.firstPolls.After(now) {
		return now, false
	}
	return now.Add(time.Duration(phase(operationID, 0) * float64(o.firstWait))).Truncate(time.Microsecond), true
}

// openOperations finds or inserts the operations, makes them due, and returns them.
// Each stays locked, so that it is not closed before its new watches are there.
func (tx *transaction) openOperations(
	ctx context.Context, requested []NewWatch, refers references,
) (map[operationKey]openedOperation, error) {
	first, watches := map[operationKey]*NewWatch{}, map[operationKey]int{}
	for i := range requested {
		n := &requested[i]
		key := n.operationKey()
		if first[key] == nil {
			first[key] = n
		}
		watches[key]++
	}
	now := tx.db.steady()
	var rows [][]any
	for _, key := range slices.SortedFunc(maps.Keys(first), compareOperations) {
		credential, n := refers.credentials[key.credentialID], first[key]
		due, held := credential.firstPoll(n.OperationID, now)
		params, err := sqldb.JSONText(n.Params)
		if err != nil {
			return nil, err
		}
		rows = append(rows, []any{
			prefixOperation.arg(newID(prefixOperation)), prefixTenant.arg(n.TenantID), prefixCredential.arg(key.credentialID),
			credential.budgetID, key.identity, n.Source, params,
			n.OperationID, due.UnixMicro(), held, now.UnixMicro(), sqldb.Null(n.Traceparent), watches[key],
		})
		look := due
		if soon := now.Add(replanMany + replanEvery); held && soon.Before(due) {
			look = soon // the plan that has it wait may be of operations that have ended
		}
		tx.markDue(Group{PollGroup, credential.budgetID}, look)
	}
	opened := make(map[operationKey]openedOperation, len(rows))
	if len(rows) == 0 {
		return opened, nil
	}
	for chunk := range slices.Chunk(rows, tx.RowsAtOnce(len(rows[0]))) {
		var args sqldb.Args
		_, err := tx.Query(ctx, func(row sqldb.Row) error {
			o, err := tx.db.scanOpened(row, refers)
			opened[o.key] = o
			return err
		}, `INSERT INTO open_operations AS o (id, tenant_id, credential_id, budget_id, identity, source, params, operation_id,
			due_at, held, created_at, traceparent, watches)`+tx.Insertion(&args, chunk)+`
			ON CONFLICT (credential_id, identity)
			DO UPDATE SET watches = o.watches + excluded.watches, due_at = CASE WHEN o.last_polled_at > excluded.created_at - `+justPolled+`
				THEN o.due_at ELSE `+tx.Least+`(o.due_at, excluded.due_at) END
			RETURNING id, credential_id, identity, polls, last_polled_at, problem, due_at, held, `+ownOperationColumns, args...)
		if err != nil {
			return nil, err
		}
	}
	return opened, nil
}

func (db *database) scanOpened(row sqldb.Row, refers references) (o openedOperation, err error) {
	w, next := &o.watch, nextPollOf{}
	err = row.Scan(append([]any{
		prefixOperation.scan(&o.ref), prefixCredential.scan(&o.key.credentialID),
		sqldb.ReadUUID(func(hash sqldb.UUID) { o.key.identity = hash }), &w.Polls, sqldb.Time(&w.LastPolledAt), &w.LastPollError,
		sqldb.Time(&next.due), &next.held,
	}, w.Operation.columns()...)...)
	w.CredentialID, w.Status = o.key.credentialID, WatchWatching
	next.refuse, next.closed = refers.credentials[w.CredentialID].refused, refers.credentials[w.CredentialID].closed
	db.datePolls(w, next)
	return o, err
}

// justPolled is how long ago, in microseconds, a poll counts as the first one of a new watch
// too. So a crowd of watches on one operation does not cost a poll each.
const justPolled = `1000000`

func compareOperations(a, b operationKey) int {
	return cmp.Or(cmp.Compare(a.credentialID, b.credentialID), bytes.Compare(a.identity[:], b.identity[:]))
}

// insertWatches writes the watches, their destinations, and a Slack message to be posted for
// each bot among these. It returns what Watch would.
func (tx *transaction) insertWatches(
	requested []NewWatch, operations map[operationKey]openedOperation, refers references,
) ([]Watch, error) {
	now, due := tx.db.now().UTC().Truncate(time.Microsecond), tx.db.steady()
	made := make([]Watch, len(requested))
	var watches, open, destinations, messages [][]any
	for i := range requested {
		n := &requested[i]
		o, w := operations[n.operationKey()], &made[i]
		*w = o.watch
		w.ID, w.TenantID, w.CreatedAt, w.ExpiresAt = tx.db.datedID(prefixWatch, now), n.TenantID, now, now.Add(n.Timeout)
		w.DestinationIDs, w.Events = slices.Clone(n.DestinationIDs), append([]string{}, n.Events...)
		w.Name, w.Metadata = n.Name, maps.Collect(maps.All(n.Metadata))
		tx.changes.watch(w.TenantID, w.ID)
		metadata, err := sqldb.JSONText(w.Metadata)
		if err != nil {
			return nil, err
		}
		id, tenantID, ref := prefixWatch.arg(w.ID), prefixTenant.arg(n.TenantID), prefixOperation.arg(o.ref)
		watches = append(watches, []any{
			id, tenantID, ref, prefixCredential.arg(n.CredentialID),
			hashed(n.TenantID, n.OperationID), hashed(n.TenantID, n.Params[ParamAccountID]),
			eventsText(w.Events), metadata, w.ExpiresAt.UnixMicro(), now.UnixMicro(), sqldb.Null(n.Traceparent), sqldb.Null(n.Name),
		})
		open = append(open, []any{ref, id, tenantID, due.Add(n.Timeout).UnixMicro()})
		for position, to := range n.DestinationIDs {
			destinations = append(destinations, []any{id, prefixDestination.arg(to), position})
			if refers.destinations[to].bot {
				messages = append(messages, []any{id, prefixDestination.arg(to), 1, 0, due.UnixMicro()})
				tx.markDue(Group{DeliverGroup, to}, due)
			}
		}
	}
	err := tx.InsertRows(`INSERT INTO watches (id, tenant_id, operation_ref, credential_id, operation_hash,
		account_hash, events, metadata, expires_at, created_at, traceparent, name)`, watches)
	if err != nil {
		return nil, err
	}
	if err := tx.InsertRows(`INSERT INTO open_watches (operation_ref, watch_id, tenant_id, deadline)`, open); err != nil {
		return nil, err
	}
	err = tx.InsertRows(`INSERT INTO watch_destinations (watch_id, destination_id, position)`, destinations)
	if err != nil {
		return nil, err
	}
	return made, tx.InsertRows(`INSERT INTO slack_messages (watch_id, destination_id, revision, shown_revision, due_at)`, messages)
}

// registration is watches that are made together or not at all.
type registration struct {
	requested  []NewWatch
	saveAnswer func(tx *Store, made []Watch) error // may be nil
	made       []Watch
}

// credentials are those of its watches, in order.
func (r *registration) credentials() string {
	ids := make([]string, len(r.requested))
	for i := range r.requested {
		ids[i] = r.requested[i].CredentialID
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " ")
}

// Register is CreateWatches, with saveAnswer in the same transaction. It may be nil, and may
// run again. Registrations that come together share a commit, see groupCommit.
func (s *Store) Register(
	ctx context.Context, requested []NewWatch, saveAnswer func(tx *Store, made []Watch) error,
) (_ []Watch, err error) {
	defer wrapf(&err, "create watches")
	r := &registration{requested: requested, saveAnswer: saveAnswer}
	if s.tx != nil {
		err = s.registerAlone(ctx, r)
	} else {
		err = s.db.registrations.do(ctx, &contribution[*registration]{what: r, rows: len(requested), locks: r.credentials()})
	}
	if err != nil {
		return nil, err
	}
	return r.made, nil
}

func (s *Store) registerAlone(ctx context.Context, r *registration) error {
	own, err := s.registerAll(ctx, []*registration{r})
	if err == nil {
		err = own[0]
	}
	return err
}

// registerAll makes the watches of all registrations whose credentials and destinations
// exist, and saves their answers, in one transaction. Each of the others gets its error.
func (s *Store) registerAll(ctx context.Context, all []*registration) (own []error, err error) {
	err = s.write(ctx, func(tx *transaction) error {
		own = make([]error, len(all))
		refers, err := tx.references(ctx, all)
		if err != nil {
			return err
		}
		var good []*registration
		var requested []NewWatch
		for i, r := range all {
			if own[i] = refers.check(r.requested); own[i] == nil {
				good = append(good, r)
				requested = append(requested, r.requested...)
			}
		}
		made, err := tx.createWatches(ctx, requested, refers)
		if err != nil {
			return err
		}
		for _, r := range good {
			r.made, made = made[:len(r.requested):len(r.requested)], made[len(r.requested):]
			if r.saveAnswer == nil {
				continue
			}
			if err := r.saveAnswer(&Store{db: tx.db, tx: tx}, r.made); err != nil {
				return err
			}
		}
		return nil
	})
	return own, err
}
