package storage

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// The tables that grow with what the relay has done.
const growing = `(open_operations|operations|open_watches|watches|watch_ends|uncompleted_watches|watch_destinations|events|deliveries|waiting_deliveries|unaccepted_deliveries|attempts|slack_messages|idempotency_keys|sessions)`

// TestPlans: nothing that runs regularly reads, or sorts, a table that grows. What
// is judged are the statements that the store really sends.
func TestPlans(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		judge(t, "sqlite:"+filepath.Join(t.TempDir(), "relay.db"), false, sqliteFault)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		judge(t, testenv.Postgres(t), false, postgresFault)
	})
	t.Run("postgres, plans that are kept", func(t *testing.T) {
		t.Parallel()
		judge(t, testenv.Postgres(t), true, keptFault)
	})
}

// sqliteFault is what a plan does that takes longer as the tables grow: it reads
// one without an index, or all of an index.
// Aliases are of any table, for where SQLite has no statistics, as here, it does
// not know which are small. v is values, a co-routine what a query within left of a table.
func sqliteFault(plan string) error {
	for _, scan := range regexp.MustCompile(`SCAN (`+growing+`|[a-z]{1,2})\b[^\n]*`).FindAllStringSubmatch(plan, -1) {
		if scan[1] != "v" && !strings.Contains(plan, "CO-ROUTINE "+scan[1]+"\n") {
			return errors.New(scan[0])
		}
	}
	return nil
}

// postgresFault is what a plan does that takes longer as the tables grow: it reads
// one without an index, or all of an index, or sorts a tenth of what there is.
func postgresFault(plan string) error {
	nodes := regexp.MustCompile(`(?m)^ *(?:-> +)?([A-Z][^\n(]*) +\(cost=[^\n]* rows=(\d+)[^\n]*\n((?: +[A-Z][A-Za-z ]*:[^\n]*\n)*)`)
	for _, node := range nodes.FindAllStringSubmatch(plan, -1) {
		name, rows, details := node[1], node[2], node[3]
		switch {
		case regexp.MustCompile(`Seq Scan on ` + growing).MatchString(name):
			return errors.New(name)
		case regexp.MustCompile(`Index.* on `+growing).MatchString(name) && !strings.Contains(details, "Index Cond"):
			return errors.New(name + " without a condition")
		case strings.HasPrefix(name, "Sort") && len(rows) >= len("1000"):
			return fmt.Errorf("%s of %s rows", name, rows)
		}
	}
	return nil
}

// keptFault is postgresFault of a plan for all values: where it does not know the limit
// it takes it for a tenth of what there is, and so it does of how many rows are sorted
// that were limited before.
func keptFault(plan string) error {
	err := postgresFault(plan)
	if err != nil && strings.HasPrefix(err.Error(), "Sort") {
		if _, sorted, _ := strings.Cut(plan, "Sort "); strings.Contains(sorted, " Limit ") {
			return nil
		}
	}
	return err
}

// judge fills a database, has a store do all that it does regularly, and looks at
// each statement's plan.
func judge(t *testing.T, url string, kept bool, fault func(plan string) error) {
	t.Helper()
	key := seal.NewKey()
	ring := get(seal.ParseKeyring(key))(t)
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	s, err := Open(t.Context(), Config{URL: url, Keys: ring, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	big, small := newPlanned(t, s, &now, "big"), newPlanned(t, s, &now, "small")
	big.fill(400)
	small.fill(40)
	if s.Backend() == "postgres" {
		pretendMany(t, s)
	}
	e := explain(t, s, url, kept)
	big.work()
	small.read()
	big.change()
	s.db.keys = get(seal.ParseKeyring(seal.NewKey() + "," + key))(t)
	get(s.Reseal(t.Context(), ResealOptions{}))(t)
	for query, plan := range e.plans {
		if strings.HasPrefix(query, "UPDATE deliveries ") {
			t.Errorf("a delivery is written once, and then changed by\n%s", query)
		}
		if err := fault(plan); err != nil {
			t.Errorf("%v\n%.500s\n%s", err, query, plan)
		}
		if strings.Contains(query, "(type, seq) > ($2, $3)") && !strings.Contains(plan, "events_type") {
			t.Errorf("events of a type are not found by it:\n%s", plan)
		}
		if strings.Contains(query, "event_type <> 'operation.completed'") && !strings.Contains(plan, "waiting_deliveries_urgent") {
			t.Errorf("urgent messages are looked for among all:\n%s", plan)
		}
	}
	if len(e.plans) < 120 {
		t.Errorf("only %d statements were explained", len(e.plans))
	}
}

// pretendMany has PostgreSQL know what is in the tables, as it does by itself in
// time, and take each row for a thousand.
func pretendMany(t *testing.T, s *Store) {
	t.Helper()
	// Of a table that is read as a whole, ANALYZE takes 100 of the values for common.
	for _, statement := range []string{`ALTER TABLE watch_destinations ALTER COLUMN watch_id SET STATISTICS 1`, `ANALYZE`, `UPDATE pg_class SET reltuples = reltuples * 1000
		WHERE relnamespace = 'public'::regnamespace AND reltuples >= 50`} {
		if _, err := sqldb.ExecCount(t.Context(), s.db.Writer(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// planned is a tenant with something in every table.
type planned struct {
	*Store

	t           *testing.T
	now         *time.Time
	tenant      string
	credential  Credential
	destination Destination
	bot         Destination
	made        int
	session     string
}

func newPlanned(t *testing.T, s *Store, now *time.Time, name string) *planned {
	t.Helper()
	p, ctx := &planned{t: t, Store: s, now: now}, t.Context()
	p.tenant = get(p.EnsureTenant(ctx, name))(p.t).ID
	p.credential = get(p.CreateCredential(ctx, NewCredential{
		TenantID: p.tenant, Upstream: "cloudflare", Name: "lists", Secret: CredentialSecret{APIToken: seal.Secret(name)},
	}))(p.t)
	p.destination = get(p.CreateDestination(ctx, NewDestination{
		TenantID: p.tenant, Kind: KindWebhook, Name: "hook", URL: "https://example.com/in", MaxInFlight: 4,
	}))(p.t)
	p.bot = get(p.CreateDestination(ctx, NewDestination{
		TenantID: p.tenant, Kind: KindSlack, Name: "bot", Channel: "C1", MaxInFlight: 1, Secret: DestinationSecret{BotToken: "x"},
	}))(p.t)
	return p
}

// fill makes n watches, of which most have ended, and most of these are delivered.
func (p *planned) fill(n int) {
	p.t.Helper()
	p.register(n)
	p.end(p.polls(n*3/4, nil))
	p.attempt(p.deliveries(p.destination, n/2, nil), DeliverySucceeded)
	check(p.t, p.Atomically(p.t.Context(), func(tx *Store) error {
		for i := range n / 4 {
			key := IdempotencyKey{TenantID: p.tenant, Key: strconv.Itoa(i), Fingerprint: []byte("f")}
			if _, err := tx.ReserveAnswer(p.t.Context(), key); err != nil {
				return err
			}
		}
		return nil
	}))
	_, key, err := p.CreateKey(p.t.Context(), NewAPIKey{TenantID: p.tenant, Name: "ada", Scopes: []Scope{ScopeRead}})
	check(p.t, err)
	for range n / 4 {
		p.session = string(get(p.CreateSession(p.t.Context(), string(key)))(p.t))
	}
}

func (p *planned) register(n int) []Watch {
	p.t.Helper()
	return get(p.CreateWatches(p.t.Context(), p.requests(n)))(p.t)
}

func (p *planned) requests(n int) []NewWatch {
	requests := make([]NewWatch, n)
	for i := range requests {
		p.made++
		requests[i] = NewWatch{
			TenantID: p.tenant, Source: "cloudflare.lists", Upstream: "cloudflare", Params: map[string]string{"account_id": fmt.Sprint("account", p.made%100)}, OperationID: strconv.Itoa(p.made), CredentialID: p.credential.ID,
			DestinationIDs: []string{p.destination.ID, p.bot.ID}, Timeout: time.Hour, Events: []string{EventOperationCompleted},
		}
	}
	return requests
}

const owner = "me"

func (p *planned) lease(kind GroupKind, id string) {
	p.t.Helper()
	g := Group{kind, id}
	if !get(p.LeaseGroup(p.t.Context(), g, owner, time.Hour))(p.t) && !get(p.RenewLease(p.t.Context(), g, owner, time.Hour))(p.t) {
		p.t.Fatalf("%v is not free", g)
	}
}

func (p *planned) polls(n int, exclude map[string]bool) []DuePoll {
	p.t.Helper()
	p.lease(PollGroup, p.credential.BudgetID)
	taken, err := p.TakePolls(p.t.Context(), TakePolls{
		Group: p.credential.BudgetID, Owner: owner, Budget: Budget{N: 1 << 30, Per: time.Minute}, Max: n,
		Intervals: Intervals{Lag: 0.1, Min: time.Second, Max: time.Minute}, Exclude: exclude,
	})
	if err != nil || len(taken.Polls) != n {
		p.t.Fatalf("%d polls, %v", len(taken.Polls), err)
	}
	return taken.Polls
}

func (p *planned) end(polls []DuePoll) {
	p.t.Helper()
	results := make([]PollResult, len(polls))
	for i, poll := range polls {
		results[i] = PollResult{RowID: poll.RowID, At: p.Steady(), Status: OperationCompleted, End: WatchCompleted, CredentialAccepted: true}
	}
	check(p.t, p.RecordPolls(p.t.Context(), results))
}

func (p *planned) deliveries(d Destination, n int, exclude map[string]bool) []DueDelivery {
	p.t.Helper()
	p.lease(DeliverGroup, d.ID)
	take := TakeDeliveries{Group: d.ID, Owner: owner, Max: n, Exclude: exclude}
	if d.Kind != KindSlack {
		return get(p.DueDeliveries(p.t.Context(), take))(p.t)
	}
	due := get(p.DueMessages(p.t.Context(), take))(p.t)
	check(p.t, p.LoadMessages(p.t.Context(), due))
	return due
}

func (p *planned) attempt(due []DueDelivery, status string) {
	p.t.Helper()
	results := make([]AttemptResult, len(due))
	for i, d := range due {
		results[i] = AttemptResult{DeliveryID: d.ID, DestinationID: d.DestinationID, AttemptsMade: d.AttemptsMade, Status: status, Slack: SlackRef{"C1", "1.5"}}
	}
	check(p.t, p.RecordAttempts(p.t.Context(), results))
}

// work does what workers and the dispatcher do.
func (p *planned) work() {
	p.t.Helper()
	ctx := p.t.Context()
	watch := p.register(1)[0]
	if err := p.DeleteDestination(ctx, p.tenant, p.destination.ID); !errors.Is(err, ErrInUse) {
		p.t.Fatal(err)
	}
	get(p.DueGroups(ctx, 10))(p.t)
	get(p.Overdue(ctx))(p.t)
	get(p.StateCounts(ctx, func(string) Budget { return Budget{N: 1, Per: time.Minute} }))(p.t)
	polls := p.polls(20, nil)
	p.end(p.polls(10, map[string]bool{polls[0].RowID: true}))
	running := PollResult{RowID: p.polls(1, nil)[0].RowID, At: p.Steady(), Status: OperationRunning, Next: p.Steady(), CredentialRefused: true}
	check(p.t, p.RecordPolls(ctx, []PollResult{running}))
	running.CredentialRefused, running.CredentialAccepted = false, true
	check(p.t, p.RecordPolls(ctx, []PollResult{running}))
	check(p.t, p.ParkBudget(ctx, p.credential.BudgetID, p.Steady()))
	check(p.t, p.HintBudget(ctx, p.credential.BudgetID, 100, p.Steady()))
	p.over(p.polls(2, nil))
	get(p.EndRemaining(ctx, 100))(p.t)
	due := p.deliveries(p.destination, 10, nil)
	p.attempt(p.deliveries(p.destination, 10, map[string]bool{due[0].ID: true}), DeliveryPending)
	p.attempt(p.deliveries(p.destination, 10, nil), DeliverySucceeded)
	p.deliveries(p.bot, 1, nil)
	p.deliveries(p.bot, 400, nil)
	progress := get(p.DueProgress(ctx, TakeDeliveries{Group: p.bot.ID, Owner: owner, Max: 400}))(p.t)
	check(p.t, p.LoadProgress(ctx, progress[:1]))
	check(p.t, p.RecordProgress(ctx, p.bot.ID, []ProgressResult{{WatchID: progress[0].WatchID, Revision: progress[0].Revision}}))
	for _, g := range []Group{{PollGroup, p.credential.BudgetID}, {DeliverGroup, p.destination.ID}} {
		get(p.ReleaseGroup(ctx, g, owner, Pause{}))(p.t)
	}
	get(p.CancelWatch(ctx, p.tenant, watch.ID))(p.t)
	*p.now = p.now.Add(time.Hour)
	get(p.LastPolls(ctx, 100))(p.t)
	check(p.t, p.RecordPolls(ctx, []PollResult{{RowID: p.polls(1, nil)[0].RowID, At: p.Steady(), Next: p.Steady()}}))
	*p.now = p.now.Add(lastPollPatience)
	get(p.LastPolls(ctx, 100))(p.t)
	get(p.ExpireWatches(ctx, 100))(p.t)
	get(p.Sweep(ctx, 100))(p.t)
	get(p.SessionKey(ctx, p.session))(p.t)
	check(p.t, p.EndSession(ctx, p.session))
	get(p.SweepSessions(ctx, 100))(p.t)
	get(p.TellFailed(ctx, 100))(p.t)
	check(p.t, p.EndRejected(ctx, p.credential.ID))
	check(p.t, p.DeleteCredential(ctx, p.tenant, p.credential.ID))
	check(p.t, p.JoinClock(ctx))
}

// over has operations end with more watches than fit the transaction.
func (p *planned) over(polls []DuePoll) {
	p.t.Helper()
	ctx := p.t.Context()
	p.db.endMost = 1
	check(p.t, p.write(ctx, func(tx *transaction) error {
		refs, results := []string{polls[0].RowID, polls[1].RowID}, map[string]PollResult{}
		for _, ref := range refs {
			results[ref] = PollResult{RowID: ref, At: p.Steady(), End: WatchUnobservable}
		}
		_, operations, err := tx.lock(ctx, refs, true)
		if err != nil {
			return err
		}
		if err := tx.updateOperations(operations, results); err != nil {
			return err
		}
		return tx.endOperations(ctx, refs)
	}))
}

// read does what the API does.
func (p *planned) read() {
	p.t.Helper()
	ctx, page := p.t.Context(), Page{Limit: 50}
	check(p.t, p.CheckKeys(ctx))
	begin, end := p.now.Add(-time.Hour), p.now.Add(time.Hour)
	for _, f := range []WatchFilter{
		{},
		{Statuses: []string{WatchFailed}},
		{OperationID: "7"},
		{AccountID: "account7"},
		{Statuses: []string{WatchWatching, WatchFailed, WatchExpired, WatchUnobservable, WatchCanceled}},
		{Statuses: []string{WatchWatching, WatchCompleted}, CreatedAfter: begin, CreatedBefore: end},
		{DestinationID: p.destination.ID},
		{Source: "cloudflare.lists"},
		{Metadata: map[string]string{"k": "v"}},
		{CreatedAfter: begin},
		{CreatedBefore: end},
		{OperationID: "7", CreatedBefore: end},
		{AccountID: "account7", CreatedAfter: begin},
	} {
		f.TenantID = p.tenant
		list := get(p.Watches(ctx, f, page))(p.t)
		get(p.Watches(ctx, f, Page{Limit: 50, After: "watch_7"}))(p.t)
		if len(list.Data) > 0 {
			get(p.Watch(ctx, p.tenant, list.Data[0].ID))(p.t)
		}
	}
	deliveries := get(p.Deliveries(ctx, DeliveryFilter{TenantID: p.tenant}, page))(p.t).Data
	d := deliveries[0]
	for _, f := range []DeliveryFilter{
		{WatchID: d.WatchID},
		{EventID: d.EventID},
		{DestinationID: d.DestinationID},
		{Status: DeliveryFailed},
		{Status: DeliveryPending},
		{Status: DeliveryHeld},
		{Status: DeliverySucceeded, DestinationID: d.DestinationID},
		{EventType: EventOperationFailed},
		{CreatedAfter: begin},
		{CreatedBefore: end},
		{WatchID: d.WatchID, CreatedAfter: begin},
		{DestinationID: d.DestinationID, CreatedAfter: begin, CreatedBefore: end},
		{Status: DeliveryFailed, CreatedBefore: end},
	} {
		f.TenantID = p.tenant
		get(p.Deliveries(ctx, f, page))(p.t)
	}
	_, _, err := p.Delivery(ctx, p.tenant, d.ID)
	check(p.t, err)
	p.readFeed(d.EventID)
	get(p.Redeliver(ctx, p.tenant, d.ID))(p.t)
	recovery := Recovery{TenantID: p.tenant, DestinationID: p.destination.ID, Since: p.now.Add(-24 * time.Hour)}
	get(p.Recover(ctx, recovery, nil))(p.t)
	get(p.Recoverable(ctx, recovery))(p.t)
	recovery.Types = []string{EventOperationCompleted, EventOperationFailed}
	get(p.Recover(ctx, recovery, nil))(p.t)
	get(p.Credentials(ctx, p.tenant, page))(p.t)
	get(p.Destinations(ctx, p.tenant, page))(p.t)
	get(p.Waiting(ctx, p.destination.ID))(p.t)
	get(p.Keys(ctx, p.tenant, page))(p.t)
	key := IdempotencyKey{TenantID: p.tenant, Key: "k", Fingerprint: []byte("f")}
	get(p.ReserveAnswer(ctx, key))(p.t)
	check(p.t, p.KeepAnswer(ctx, key, Answer{}))
	check(p.t, p.DropReservation(ctx, key))
}

// readFeed does what readers of the feed do, and those who follow it.
func (p *planned) readFeed(eventID string) {
	p.t.Helper()
	ctx := p.t.Context()
	for _, f := range []FeedFilter{{}, {After: eventID}, {Type: EventCredentialRejected}, {After: eventID, Type: EventOperationCompleted}, {Since: *p.now}} {
		f.TenantID = p.tenant
		get(p.Events(ctx, f, 50))(p.t)
	}
	_, _, err := p.FeedEnd(ctx, p.tenant)
	check(p.t, err)
	get(p.FeedEnds(ctx, []string{p.tenant, "tenant_other"}))(p.t)
	get(p.ValidKeys(ctx, []string{"key_1", "key_2"}))(p.t)
	get(p.WatchesOf(ctx, p.tenant, []string{"watch_1", "watch_2"}))(p.t)
	get(p.OpenWatchesOf(ctx, p.tenant, []string{"operation_1", "operation_2"}, 50))(p.t)
}

// change does what the API does to a destination, to which much is still to be sent.
func (p *planned) change() {
	p.t.Helper()
	ctx, id := p.t.Context(), p.destination.ID
	get(p.UpdateDestination(ctx, p.tenant, id, DestinationPatch{}))(p.t)
	check(p.t, p.RotateSecret(ctx, p.tenant, id, "whsec_x", 0))
	get(p.TestDestination(ctx, p.tenant, id))(p.t)
	get(p.DisableDestination(ctx, p.tenant, id, DisabledFailing))(p.t)
	p.deliveries(p.destination, 1, nil)
	get(p.EnableDestination(ctx, p.tenant, id))(p.t)
	sent := p.deliveries(p.destination, 1, nil)
	check(p.t, p.ForceDeleteDestination(ctx, p.tenant, id))
	p.attempt(sent, DeliverySucceeded)
	check(p.t, p.ForceDeleteDestination(ctx, p.tenant, p.bot.ID))
	p.forget()
}

// forget does what retention does.
func (p *planned) forget() {
	p.t.Helper()
	ctx := p.t.Context()
	*p.now = p.now.Add(time.Hour)
	before := p.Counters().Deleted
	for range 10 {
		get(p.DeleteOld(ctx, time.Minute))(p.t)
	}
	get(p.Kept(ctx, time.Minute))(p.t)
	for table, n := range p.Counters().Deleted {
		if n == before[table] {
			p.t.Errorf("none of %s was deleted", table)
		}
	}
}

// get returns the value of a call that must not fail.
func get[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return value
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
