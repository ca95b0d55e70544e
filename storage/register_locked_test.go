package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
)

// hold locks rows in a session of another program until release is called.
func hold(t *testing.T, url, query string, args ...any) (release func()) {
	t.Helper()
	db := get(sql.Open("pgx", url))(t)
	t.Cleanup(func() { _ = db.Close() })
	tx := get(db.BeginTx(t.Context(), nil))(t)
	if n := get(get(tx.ExecContext(t.Context(), query, args...))(t).RowsAffected())(t); n == 0 {
		t.Fatalf("nothing is locked by %s", query)
	}
	return func() { check(t, tx.Rollback()) }
}

// However many registrations of one tenant wait for a lock, those of others are made
// meanwhile. The waiting ones are made when the lock is released.
func TestRegistrationsWaitForNoOther(t *testing.T) {
	t.Parallel()
	for name, lock := range map[string]func(p *planned) (query string, id string){
		"the credential": func(p *planned) (string, string) {
			return `SELECT 1 FROM credentials WHERE id = $1 FOR UPDATE`, testenv.UUID(p.credential.ID)
		},
		"an operation": func(p *planned) (string, string) {
			return `SELECT 1 FROM open_operations WHERE credential_id = $1 FOR NO KEY UPDATE`, testenv.UUID(p.credential.ID)
		},
		"the group of its budget": func(p *planned) (string, string) {
			return `SELECT 1 FROM work_groups WHERE id = $1 FOR NO KEY UPDATE`, p.credential.BudgetID
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, now := testenv.Postgres(t), time.Now()
			s := get(Open(t.Context(), Config{URL: url, Keys: get(seal.ParseKeyring(seal.NewKey()))(t)}))(t)
			t.Cleanup(func() { _ = s.Close() })
			get(s.Migrate(t.Context()))(t)
			blocked, free := newPlanned(t, s, &now, "blocked"), newPlanned(t, s, &now, "free")
			blocked.register(1)
			query, id := lock(blocked)
			release := hold(t, url, query, id)
			var waiting errgroup.Group
			const each = 2 * DefaultMaxConns
			for i := range each + 2 {
				blocked.made = 0 // all on the same operation
				n := 1
				if i >= each {
					n = fewRows + 1
				}
				wanted := blocked.requests(n)
				waiting.Go(func() error {
					made, err := s.Register(t.Context(), wanted, nil)
					if err == nil && len(made) != len(wanted) {
						err = fmt.Errorf("%d made, wanted %d", len(made), len(wanted))
					}
					return err
				})
			}
			for i := range 20 {
				n := 1
				if i == 10 {
					n = fewRows + 1
				}
				_, err := s.Register(t.Context(), free.requests(n), nil)
				check(t, err)
			}
			release()
			check(t, waiting.Wait())
			if n := s.Counters().Registered; n != int64(1+each+2*(fewRows+1)+19+fewRows+1) {
				t.Errorf("%d watches are made", n)
			}
		})
	}
}

// A registration that waits for a lock in vain fails in time, with nothing made, and is in
// nobody's way from then on.
func TestRegistrationGivesUpWaiting(t *testing.T) {
	t.Parallel()
	url, now := testenv.Postgres(t), time.Now()
	s := get(Open(t.Context(), Config{URL: url, Keys: get(seal.ParseKeyring(seal.NewKey()))(t)}))(t)
	t.Cleanup(func() { _ = s.Close() })
	get(s.Migrate(t.Context()))(t)
	p := newPlanned(t, s, &now, "blocked")
	release := hold(t, url, `SELECT 1 FROM credentials WHERE id = $1 FOR UPDATE`, testenv.UUID(p.credential.ID))
	ctx, cancel := context.WithTimeout(t.Context(), 3*toldBefore)
	defer cancel()
	if _, err := s.Register(ctx, p.requests(1), nil); !Unavailable(err) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("it waited, and was told %v", err)
	}
	release()
	made, err := s.Register(t.Context(), p.requests(1), nil)
	check(t, err)
	list := get(s.Watches(t.Context(), WatchFilter{TenantID: p.tenant}, Page{Limit: 10}))(t)
	if !slices.EqualFunc(list.Data, made, func(a, b Watch) bool { return a.ID == b.ID }) {
		t.Errorf("%d watches are made", len(list.Data))
	}
}

// Ending watches waits for no locked operation: all others end.
func TestEndingWaitsForNoOther(t *testing.T) {
	t.Parallel()
	url, now := testenv.Postgres(t), time.Now()
	s := get(Open(t.Context(), Config{URL: url, Keys: get(seal.ParseKeyring(seal.NewKey()))(t), Now: func() time.Time { return now }}))(t)
	t.Cleanup(func() { _ = s.Close() })
	get(s.Migrate(t.Context()))(t)
	p := newPlanned(t, s, &now, "acme")
	p.register(3)
	locked := `SELECT 1 FROM open_operations WHERE operation_id = '1' FOR NO KEY UPDATE`
	now = now.Add(time.Hour)
	step := func(name string, end func(context.Context, int) (int, error)) {
		t.Helper()
		release := hold(t, url, locked)
		if n := get(end(t.Context(), 10))(t); n != 2 {
			t.Errorf("%s: %d while one is locked, want 2", name, n)
		}
		release()
		if n := get(end(t.Context(), 10))(t); n != 1 {
			t.Errorf("%s: %d when it is released, want 1", name, n)
		}
	}
	step("last polls", s.LastPolls)
	now = now.Add(lastPollPatience)
	step("expired", s.ExpireWatches)
}
