package jobs

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"oprelay/storage"
)

// errUnavailable is an error that storage.Unavailable knows.
var errUnavailable = fmt.Errorf("write: %w", driver.ErrBadConn)

// renewals are what a store answers to whoever renews.
type renewals struct {
	all    func(ctx context.Context, groups []storage.Group) ([]storage.Group, error)
	single func(g storage.Group) (bool, error)

	statements int
}

// RenewLeases implements renewer.
func (r *renewals) RenewLeases(
	ctx context.Context, _ string, _ time.Duration, groups []storage.Group,
) ([]storage.Group, error) {
	r.statements++
	return r.all(ctx, groups)
}

// RenewLease implements renewer.
func (r *renewals) RenewLease(_ context.Context, g storage.Group, _ string, _ time.Duration) (bool, error) {
	return r.single(g)
}

func every(_ context.Context, groups []storage.Group) ([]storage.Group, error) { return groups, nil }
func none(context.Context, []storage.Group) ([]storage.Group, error)           { return nil, nil }
func yes(storage.Group) (bool, error)                                          { return true, nil }
func no(storage.Group) (bool, error)                                           { return false, nil }
func away(context.Context, []storage.Group) ([]storage.Group, error)           { return nil, errUnavailable }

func hang(ctx context.Context, _ []storage.Group) ([]storage.Group, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestKeepLeases(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		store renewals
		lost  time.Duration // 0: kept
	}{
		{"renewed", renewals{all: every}, 0},
		{"another has it", renewals{all: none, single: no}, leaseRenew},
		{"somebody has locked it", renewals{all: none, single: yes}, 0},
		{"somebody has locked it for good", renewals{all: none, single: func(storage.Group) (bool, error) { return false, errUnavailable }}, leaseTTL},
		{"the database is away", renewals{all: away}, leaseTTL},
		{"the database hangs", renewals{all: hang}, leaseTTL},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				l := &leases{store: &test.store, held: map[storage.Group]*lease{}}
				began, lost := time.Now(), time.Duration(0)
				l.hold(group("a"), began, func() {
					lost = time.Since(began)
					cancel()
				})
				l.keep(ctx)
				if lost != test.lost {
					t.Errorf("lost after %v, want %v", lost, test.lost)
				}
				l.letGo(group("a"))
			})
		})
	}
}

// All leases are renewed by one statement. One that was taken meanwhile is not judged by
// it, nor is one that was let go of, or was taken anew since.
func TestRenewalsBesideLeasesThatComeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &leases{held: map[storage.Group]*lease{}}
		hold := func(id string) {
			l.hold(group(id), time.Now(), func() { t.Errorf("%s was lost", id) })
		}
		store := &renewals{single: no}
		l.store = store
		store.all = func(_ context.Context, groups []storage.Group) ([]storage.Group, error) {
			if len(groups) != 3 {
				t.Errorf("%d are renewed together", len(groups))
			}
			hold("taken meanwhile")
			l.letGo(group("given back"))
			l.letGo(group("given back and taken anew"))
			hold("given back and taken anew")
			return []storage.Group{group("kept")}, nil
		}
		hold("kept")
		hold("given back")
		hold("given back and taken anew")
		l.renew(t.Context())
		store.all = every
		for range 10 {
			wait(t.Context(), leaseRenew)
			l.renew(t.Context())
		}
		if len(l.held) != 3 || store.statements != 11 {
			t.Errorf("%d are held, after %d statements", len(l.held), store.statements)
		}
		for g := range l.held {
			l.letGo(g)
		}
	})
}

// What the store renews together is all that is the owner's still, and that nobody has
// locked: for that it waits by itself.
func TestRenewLeases(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			url := b.database(t)
			b.database = func(*testing.T) string { return url }
			r := newRelay(t, b)
			credential := r.credential("token")
			var groups []storage.Group
			for i := range 5 {
				to := r.webhook(nil)
				if _, err := r.store.TestDestination(t.Context(), r.tenant, to.id); err != nil {
					t.Fatal(err)
				}
				groups = append(groups, to.group())
				r.watch(credential, operations(fmt.Sprint("op", i), 1), to.id)
			}
			due, err := r.store.DueGroups(t.Context(), 10)
			if err != nil {
				t.Fatal(err)
			}
			groups = append(groups, due[slices.IndexFunc(due, func(g storage.Group) bool { return g.Kind == storage.PollGroup })])
			lease := func(g storage.Group, owner string) bool {
				ok, err := r.store.LeaseGroup(t.Context(), g, owner, leaseTTL)
				if err != nil {
					t.Fatal(err)
				}
				return ok
			}
			lease(groups[0], "another")
			for _, g := range groups[1:] {
				lease(g, "me")
			}
			if _, err := r.store.ReleaseGroup(t.Context(), groups[1], "me", storage.Pause{}); err != nil {
				t.Fatal(err)
			}
			want := groups[2:]
			release := func() {}
			if r.store.Backend() == "postgres" {
				release = lock(t, url, `SELECT 1 FROM work_groups WHERE id = '`+groups[2].ID+`' FOR NO KEY UPDATE`)
				want = groups[3:]
			}
			r.skipped.Add(int64(leaseTTL / 2))
			renewed, err := r.store.RenewLeases(t.Context(), "me", leaseTTL, groups)
			if err != nil || len(renewed) != len(want) || slices.ContainsFunc(want, func(g storage.Group) bool { return !slices.Contains(renewed, g) }) {
				t.Errorf("%v: %v are renewed, want %v", err, renewed, want)
			}
			var single sync.WaitGroup
			single.Go(func() {
				if ok, err := r.store.RenewLease(t.Context(), groups[2], "me", leaseTTL); err != nil || !ok {
					t.Errorf("%v: the locked one is renewed: %v", err, ok)
				}
			})
			release()
			single.Wait()
			r.skipped.Add(int64(leaseTTL/2 + time.Second))
			for i, g := range groups {
				if free := lease(g, "next"); free != (i < 2) {
					t.Errorf("group %d can be leased: %v", i, free)
				}
			}
		})
	}
}
