package storage

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// onBoth runs a test on both databases, with a transaction that ends few watches.
func onBoth(t *testing.T, test func(t *testing.T, p *planned)) {
	t.Helper()
	for backend, newURL := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { t.Helper(); return "sqlite:" + filepath.Join(t.TempDir(), "relay.db") },
		"postgres": func(t *testing.T) string { t.Helper(); return testenv.Postgres(t) },
	} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
			ring := get(seal.ParseKeyring(seal.NewKey()))(t)
			s := get(Open(t.Context(), Config{URL: newURL(t), Keys: ring, Now: func() time.Time { return now }}))(t)
			t.Cleanup(func() { _ = s.Close() })
			get(s.Migrate(t.Context()))(t)
			s.db.endMost = 10
			test(t, newPlanned(t, s, &now, "acme"))
			checkParted(t, s)
		})
	}
}

// checkParted checks that each watch is open or has one end, and that each of its operations is
// open while it is needed, and over where it says so.
func checkParted(t *testing.T, s *Store) {
	t.Helper()
	for what, query := range map[string]string{
		"watches that are open and have ended, or neither": `SELECT COUNT(*) FROM watches w
			WHERE EXISTS (SELECT 1 FROM open_watches o WHERE o.watch_id = w.id) = EXISTS (SELECT 1 FROM watch_ends e WHERE e.watch_id = w.id)`,
		"watches listed by another status": `SELECT COUNT(*) FROM watches w JOIN watch_ends e ON e.watch_id = w.id
			LEFT JOIN uncompleted_watches u ON u.tenant_id = w.tenant_id AND u.watch_id = w.id
			WHERE COALESCE(u.status, 'completed') <> e.status`,
		"open watches without their operation": `SELECT COUNT(*) FROM open_watches w
			WHERE NOT EXISTS (SELECT 1 FROM open_operations o WHERE o.id = w.operation_ref)`,
		"open operations without a watch": `SELECT COUNT(*) FROM open_operations o
			WHERE NOT EXISTS (SELECT 1 FROM open_watches w WHERE w.operation_ref = o.id)`,
		"open operations that are over and have a budget, or neither": `SELECT COUNT(*) FROM open_operations p
			WHERE EXISTS (SELECT 1 FROM operations o WHERE o.id = p.id) = (p.budget_id <> '')`,
		"operations that are lost": `SELECT COUNT(*) FROM watches w WHERE NOT EXISTS (SELECT 1 FROM operations o WHERE o.id = w.operation_ref)
			AND NOT EXISTS (SELECT 1 FROM open_operations o WHERE o.id = w.operation_ref)`,
		"miscounted operations": `SELECT COUNT(*) FROM operations o WHERE o.watches <> (SELECT COUNT(*) FROM watches w WHERE w.operation_ref = o.id)`,
	} {
		if n := get(sqldb.One(t.Context(), s.db, sqldb.Int, query))(t); n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
}

// Of an operation that more watch than fit a transaction, the others end after it: each
// once, as the operation did, whatever happens meanwhile.
func TestManyWatchOneOperation(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *planned) {
		t.Helper()
		const crowd = 40
		ctx := t.Context()
		p.register(1)
		p.end(p.polls(1, nil)) // the operation's id is known from an earlier one
		watches := p.crowd(crowd)
		ended := *p.now
		p.end(p.polls(1, nil))
		told := func() int64 { return p.Counters().Ended[WatchCompleted] - 1 }
		if told() != 10 {
			t.Errorf("%d watches ended in the transaction of the poll", told())
		}
		later := p.crowd(1)[0]
		canceled := 0
		for _, w := range watches[:20] { // one of them, at least, is left
			if got := get(p.CancelWatch(ctx, p.tenant, w.ID))(t); got.Status == WatchCanceled {
				canceled = 1
				break
			}
		}
		*p.now = p.now.Add(time.Hour)
		get(p.LastPolls(ctx, 5))(t)
		*p.now = p.now.Add(lastPollPatience)
		get(p.ExpireWatches(ctx, 5))(t)
		if n := told(); n < 14 { // one of the five may be the later one
			t.Errorf("%d watches have ended as their operation did", n)
		}

		killed := errors.New("killed")
		if err := p.Atomically(ctx, func(tx *Store) error { _, err := tx.EndRemaining(ctx, 10); return errors.Join(err, killed) }); !errors.Is(err, killed) {
			t.Fatal(err)
		}
		var processes errgroup.Group
		for range 2 {
			processes.Go(func() error { return p.endAllRemaining(ctx) })
		}
		check(t, processes.Wait())
		p.checkCrowd(watches, ended)
		if want := int64(crowd - canceled); told() != want || canceled == 0 {
			t.Errorf("%d watches have ended as their operation did, want %d", told(), want)
		}
		if got := get(p.Watch(ctx, p.tenant, later.ID))(t); got.Status == WatchCompleted || got.Polls != 0 {
			t.Errorf("the later watch: %+v", got)
		}
	})
}

// However many operations end together with a few watches left each, these do not
// wait for a look of the dispatcher's each.
func TestManyOperationsLeaveWatches(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *planned) {
		t.Helper()
		const operations = endingAtOnce + 5
		for range 2 {
			p.made = 0 // the same ids again
			p.register(operations)
		}
		p.end(p.polls(operations, nil))
		told := func() int64 { return p.Counters().Ended[WatchCompleted] }
		if told() != 10 {
			t.Errorf("%d watches ended in the transaction of the polls", told())
		}
		if n := get(p.EndRemaining(t.Context(), 1000))(t); n < 1000 {
			t.Errorf("%d watches were looked at, which says that no operation is left", n)
		}
		if n := get(p.EndRemaining(t.Context(), 1000))(t); n >= 1000 || told() != 2*operations {
			t.Errorf("%d more were looked at, and %d ended in all, want %d", n, told(), 2*operations)
		}
	})
}

// crowd registers so many watches of operation 1.
func (p *planned) crowd(n int) []Watch {
	p.t.Helper()
	requests := make([]NewWatch, n)
	for i := range requests {
		requests[i] = NewWatch{
			TenantID: p.tenant, Source: "cloudflare.lists", Upstream: "cloudflare", Params: map[string]string{"account_id": "account1"}, OperationID: "1", CredentialID: p.credential.ID,
			DestinationIDs: []string{p.destination.ID}, Timeout: time.Hour, Events: []string{EventOperationCompleted},
		}
	}
	return get(p.CreateWatches(p.t.Context(), requests))(p.t)
}

func (p *planned) endAllRemaining(ctx context.Context) error {
	for {
		if n, err := p.EndRemaining(ctx, 7); err != nil || n == 0 {
			return err
		}
	}
}

// checkCrowd checks that each watch has one event and one delivery if it is not
// canceled, which tell when the operation was seen to have ended.
func (p *planned) checkCrowd(watches []Watch, ended time.Time) {
	p.t.Helper()
	events := map[string]int{}
	for _, e := range get(p.Events(p.t.Context(), FeedFilter{TenantID: p.tenant}, 200))(p.t).Data {
		events[e.WatchID]++
		if e.Type == EventOperationCompleted && !strings.Contains(string(e.Body), `"observed_at":"`+ended.Format(time.RFC3339)) {
			p.t.Errorf("%s tells of another time than %s", e.Body, ended)
		}
	}
	for _, w := range watches {
		got := get(p.Watch(p.t.Context(), p.tenant, w.ID))(p.t)
		deliveries := get(p.Deliveries(p.t.Context(), DeliveryFilter{TenantID: p.tenant, WatchID: w.ID}, Page{Limit: 5}))(p.t).Data
		switch n := events[w.ID]; {
		case got.Status == WatchCanceled && n == 0 && len(deliveries) == 0:
		case got.Status != WatchCompleted, n != 1, len(deliveries) != 1:
			p.t.Errorf("a watch is %s, with %d events and %d deliveries", got.Status, n, len(deliveries))
		}
	}
}

// Of the watches that a poll concerns, a transaction changes no more than its share,
// whatever it changes of them.
func TestManyAreTouched(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *planned) {
		t.Helper()
		p.register(5)
		var refs []string
		for _, poll := range p.polls(5, nil) {
			refs = append(refs, poll.RowID)
		}
		*p.now = p.now.Add(time.Hour)
		get(p.LastPolls(t.Context(), 5))(t)
		check(t, p.write(t.Context(), func(tx *transaction) error {
			if err := tx.Later(`UPDATE open_operations SET last_polled_at = $1`, p.Steady().UnixMicro()); err != nil {
				return err
			}
			if err := tx.expirePolled(refs, 2); err != nil {
				return err
			}
			return tx.showOperations(t.Context(), refs, 3)
		}))
		if shown := get(sqldb.One(t.Context(), p.db, sqldb.Int, `SELECT COUNT(*) FROM slack_messages WHERE revision = 2`))(t); shown != 3 {
			t.Errorf("%d messages show the operation's state", shown)
		}
		if n := get(p.ExpireWatches(t.Context(), 10))(t); n != 2 {
			t.Errorf("%d watches expired", n)
		}
		*p.now = p.now.Add(lastPollPatience)
		if n := get(p.ExpireWatches(t.Context(), 10))(t); n != 3 {
			t.Errorf("%d watches expired later", n)
		}
	})
}
