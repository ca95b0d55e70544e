package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// lockedTables are the tables in the order in which a transaction locks their rows, each
// with what its rows are ordered by.
func lockedTables() []lockedTable {
	return []lockedTable{
		{name: "retention", order: "id"},
		{name: "credentials", order: "id"},
		{name: "destinations", order: "id"},
		{name: "open_operations", order: "credential_id, identity, id"},
		{name: "open_watches", order: "operation_ref, watch_id", under: "open_operations"},
		{name: "tenants", order: "id"},
		{name: "waiting_deliveries", order: "id", under: "destinations"},
		{name: "unaccepted_deliveries", order: "id", under: "destinations", any: true}, // retention has locked their deliveries
		{name: "slack_messages", order: "watch_id, destination_id", any: true},         // no two transactions share several
		{name: "feed_starts", order: "tenant_id"},
		{name: "idempotency_keys", order: "tenant_id, key"},
		{name: "budgets", order: "id"},
		{name: "work_groups", order: "kind, id"},
	}
}

type lockedTable struct {
	name, order string
	// under is the table whose rows are locked by all who lock rows of this one: so
	// nobody waits for these, in whatever order they are locked.
	under string
	any   bool // several rows may be locked in any order
}

// lockedRow is a row that a transaction has locked, by the place of its table.
type lockedRow struct {
	table int
	key   string
}

// lockOrder has PostgreSQL say after each statement of a transaction which rows another
// cannot change now, and notes where one was locked too late.
type lockOrder struct {
	other  *sql.DB
	tables []lockedTable
	faults chan string
	locked sync.Map // names of tables of which rows were locked
	open   sync.Map // transactions by their connections
}

// lockOrderTx is a transaction with what it has locked.
type lockOrderTx struct {
	all    *lockOrder
	locked map[lockedRow]bool
	order  []lockedRow // those of them whose order matters
	last   string      // the statement that ran last
}

// before looks at what the statement before has locked.
func (o *lockOrder) before(ctx context.Context, on sqldb.Querier, query string, _ []any) error {
	if query == "BEGIN" {
		o.open.Store(on, &lockOrderTx{all: o, locked: map[lockedRow]bool{}})
		return nil
	}
	begun, _ := o.open.Load(on)
	tx, ok := begun.(*lockOrderTx)
	if !ok {
		return nil
	}
	if query == "COMMIT" {
		o.open.Delete(on)
	}
	err := tx.look(ctx)
	tx.last = query
	return err
}

// look judges what the last statement has locked.
func (c *lockOrderTx) look(ctx context.Context) error {
	if c.last == "" {
		return nil
	}
	now, err := c.all.rows(ctx)
	if err != nil {
		return err
	}
	var last *lockedRow
	if len(c.order) > 0 {
		last = new(slices.MaxFunc(c.order, compareRows))
	}
	several := map[int]int{}
	for row := range now {
		if c.locked[row] {
			continue
		}
		c.locked[row] = true
		table := c.all.tables[row.table]
		c.all.locked.Store(table.name, true)
		if slices.ContainsFunc(c.order, func(r lockedRow) bool { return c.all.tables[r.table].name == table.under }) {
			continue
		}
		if table.any {
			row.key = ""
		}
		c.order = append(c.order, row)
		several[row.table]++
		if last != nil && compareRows(row, *last) < 0 {
			c.all.faults <- fmt.Sprintf("%s %s is locked after %s %s by\n%s", table.name, row.key, c.all.tables[last.table].name, last.key, c.last)
		}
	}
	for table, n := range several {
		t := c.all.tables[table]
		inOrder := t.any || strings.Contains(c.last, "ORDER BY "+t.order+" FOR ") || strings.HasPrefix(c.last, "INSERT ")
		if n > 1 && !inOrder {
			c.all.faults <- fmt.Sprintf("%d rows of %s are locked in any order by\n%s", n, t.name, c.last)
		}
	}
	return nil
}

func compareRows(a, b lockedRow) int {
	if a.table != b.table {
		return a.table - b.table
	}
	return strings.Compare(a.key, b.key)
}

// rows are those that somebody has locked against changes.
func (o *lockOrder) rows(ctx context.Context) (_ map[lockedRow]bool, err error) {
	parts := make([]string, len(o.tables))
	for i, t := range o.tables {
		parts[i] = fmt.Sprintf(`(SELECT %d, concat_ws(' ', %[2]s) FROM %[3]s EXCEPT SELECT %[1]d, of_row
			FROM (SELECT concat_ws(' ', %[2]s) AS of_row FROM %[3]s FOR NO KEY UPDATE SKIP LOCKED) AS others)`, i, t.order, t.name)
	}
	rows, err := o.other.QueryContext(ctx, strings.Join(parts, ` UNION ALL `))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found := map[lockedRow]bool{}
	for rows.Next() {
		var row lockedRow
		if err := rows.Scan(&row.table, &row.key); err != nil {
			return nil, err
		}
		found[row] = true
	}
	return found, rows.Err()
}

// watchLocks has all that the store does from now on judged; faults are told at the test's end.
func watchLocks(t *testing.T, s *Store, url string) *lockOrder {
	t.Helper()
	o := &lockOrder{tables: lockedTables(), faults: make(chan string, 1000), other: get(sql.Open("pgx", url))(t)}
	t.Cleanup(func() { _ = o.other.Close() })
	check(t, s.Close())
	s.db.DB = get(sqldb.Open(sqldb.Config{URL: url, MaxConns: 10, Before: o.before}))(t)
	return o
}

// Transactions lock rows in the order that [transaction] documents, lest two of them wait
// for one another. What is judged are the rows that PostgreSQL says are locked.
func TestLockOrder(t *testing.T) {
	t.Parallel()
	url, now := testenv.Postgres(t), time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	s := get(Open(t.Context(), Config{URL: url, Keys: get(seal.ParseKeyring(seal.NewKey()))(t), Now: func() time.Time { return now }}))(t)
	t.Cleanup(func() { _ = s.Close() })
	get(s.Migrate(t.Context()))(t)
	p, other := newPlanned(t, s, &now, "acme"), newPlanned(t, s, &now, "other")
	p.fill(80)
	other.fill(20)
	o := watchLocks(t, s, url)
	p.reject(other)
	p.disable(other)
	p.again()
	p.work()
	other.read()
	p.change()
	close(o.faults)
	for fault := range o.faults {
		t.Error(fault)
	}
	for _, table := range o.tables {
		if _, ok := o.locked.Load(table.name); !ok {
			t.Errorf("no row of %s was locked", table.name)
		}
	}
}

// reject has two budgets' polls recorded together: some end watches of the other tenant,
// and two credentials, the younger refused before, are rejected.
func (p *planned) reject(other *planned) {
	p.t.Helper()
	ctx := p.t.Context()
	alerts := get(p.CreateDestination(ctx, NewDestination{TenantID: p.tenant, Kind: KindWebhook, Name: "alerts", Alerts: true, MaxInFlight: 1}))(p.t)
	first := p.credential
	second := get(p.CreateCredential(ctx, NewCredential{TenantID: p.tenant, Upstream: "cloudflare", Name: "second", Secret: CredentialSecret{APIToken: "second"}}))(p.t)
	p.credential = second
	p.register(3)
	young := p.polls(3, nil)
	p.credential = first
	results := []PollResult{{RowID: other.polls(1, nil)[0].RowID, At: p.Steady(), Status: OperationCompleted, End: WatchCompleted, CredentialAccepted: true}}
	refused := func(poll DuePoll) PollResult {
		return PollResult{RowID: poll.RowID, At: p.Steady(), Next: p.Steady(), CredentialRefused: true}
	}
	get(p.RecordRefusals(ctx, []PollResult{refused(young[0])}, time.Minute))(p.t)
	*p.now = p.now.Add(time.Hour)
	results = append(results, refused(young[1]), refused(p.polls(1, nil)[0]))
	if rejected := get(p.RecordRefusals(ctx, results, 0))(p.t); len(rejected) != 2 {
		p.t.Errorf("rejected: %q", rejected)
	}
	check(p.t, p.JoinClock(ctx))
	check(p.t, p.EndRejected(ctx, second.ID))
	p.attempt(p.deliveries(alerts, 2, nil), DeliverySucceeded)
	*p.now = p.now.Add(time.Minute) // while a credential is refused, little is asked with it
	accepted := PollResult{RowID: p.polls(1, nil)[0].RowID, At: p.Steady(), Next: p.Steady(), CredentialAccepted: true}
	check(p.t, p.RecordPolls(ctx, []PollResult{accepted}))
}

// disable does what a worker does when a bot's last message shows that it has been removed
// while progress was to be shown.
func (p *planned) disable(other *planned) {
	p.t.Helper()
	ctx := p.t.Context()
	due := p.deliveries(p.bot, 1, nil)
	progress := get(p.DueProgress(ctx, TakeDeliveries{Group: p.bot.ID, Owner: owner, Max: 1}))(p.t)
	check(p.t, p.Atomically(ctx, func(tx *Store) error {
		results := []AttemptResult{{DeliveryID: due[0].ID, DestinationID: p.bot.ID, Status: DeliveryFailed}}
		if err := tx.RecordAttempts(ctx, results); err != nil {
			return err
		}
		if _, err := tx.DisableDestination(ctx, "", p.bot.ID, DisabledGone); err != nil {
			return err
		}
		return tx.RecordProgress(ctx, p.bot.ID, []ProgressResult{{WatchID: progress[0].WatchID, Revision: progress[0].Revision}})
	}))
	get(p.EnableDestination(ctx, p.tenant, p.bot.ID))(p.t)
	mixed := append(p.deliveries(p.destination, 2, nil), other.deliveries(other.destination, 2, nil)...)
	p.attempt(mixed, DeliveryPending)
	mixed = append(p.deliveries(p.destination, 2, nil), other.deliveries(other.destination, 2, nil)...)
	p.attempt(mixed, DeliveryFailed)
	*p.now = p.now.Add(failedGather)
	if n := get(p.TellFailed(ctx, 10))(p.t); n != 3 {
		p.t.Errorf("told of %d destinations", n)
	}
}

// again registers watches on operations that are watched, in an order that is not theirs.
func (p *planned) again() {
	p.t.Helper()
	ctx := p.t.Context()
	first := p.made + 1
	made := p.register(3)
	p.made = first - 1
	_, err := p.Register(ctx, p.requests(1), nil)
	check(p.t, err)
	p.made = first - 1
	requests := p.requests(3)
	slices.Reverse(requests)
	get(p.CreateWatches(ctx, requests))(p.t)
	p.end(p.polls(3, nil))
	get(p.CancelWatch(ctx, p.tenant, made[0].ID))(p.t)
}
