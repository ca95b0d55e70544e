package storage

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// readOnly is a database that can be made to take no writes, and to take them again.
type readOnly struct {
	name string
	open func(t *testing.T) (url string)
	set  func(t *testing.T, s *Store, url, state string)
}

func readOnlies() []readOnly {
	return []readOnly{
		{
			"sqlite", func(t *testing.T) string { t.Helper(); return "sqlite:" + t.TempDir() + "/relay.db" },
			func(t *testing.T, s *Store, _, state string) {
				t.Helper()
				_, err := sqldb.ExecCount(t.Context(), s.db.Writer(), "PRAGMA query_only = "+state) // of the one connection that writes
				check(t, err)
			},
		},
		{
			"postgres", func(t *testing.T) string { t.Helper(); return testenv.StartPostgresServer(t).URL },
			func(t *testing.T, _ *Store, url, state string) {
				t.Helper()
				testenv.Execute(t, url, "ALTER SYSTEM SET default_transaction_read_only = "+state)
				testenv.Execute(t, url, "SELECT pg_reload_conf()")
			},
		},
	}
}

// A database that can only be read is noticed though nobody writes, and so is its return.
// Meanwhile reads go on: that a key was used is written down later.
func TestADatabaseThatOnlyReads(t *testing.T) {
	t.Parallel()
	for _, r := range readOnlies() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			onlyReads(t, r)
		})
	}
}

func onlyReads(t *testing.T, r readOnly) {
	t.Helper()
	url := r.open(t)
	var later atomic.Int64 // added to the clock
	s := get(Open(t.Context(), Config{
		URL: url, Keys: &seal.Keyring{}, Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) },
	}))(t)
	t.Cleanup(func() { _ = s.Close() })
	get(s.Migrate(t.Context()))(t)
	tenant := get(s.EnsureTenant(t.Context(), "acme"))(t)
	_, secret, err := s.CreateKey(t.Context(), NewAPIKey{TenantID: tenant.ID, Name: "key", Scopes: []Scope{ScopeRead}})
	check(t, err)
	used := get(s.Authenticate(t.Context(), string(secret)))(t).LastUsedAt

	r.set(t, s, url, "on")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go s.KeepClock(ctx)
	untilTrue(t, func() bool { return s.Ping(t.Context()) != nil })
	if err := s.Ping(t.Context()); !Unavailable(err) || !strings.Contains(Complaint(err), "only reads") {
		t.Errorf("ping: %v, which is: the database %s", err, Complaint(err))
	}
	if _, err := s.EnsureTenant(t.Context(), "another"); !Unavailable(err) {
		t.Errorf("a write: %v is not Unavailable", err)
	}
	later.Store(int64(lastUsedEvery))
	for _, bad := range []bool{true, false} { // also for who does not know of it yet
		s.db.SetHealthy(!bad)
		key, err := s.Authenticate(t.Context(), string(secret))
		if err != nil || !key.LastUsedAt.Equal(used) {
			t.Errorf("authenticate: %v, last used %s, want %s", err, key.LastUsedAt, used)
		}
	}
	if _, err := s.AllKeys(t.Context()); err != nil {
		t.Errorf("a read: %v", err)
	}
	if n, _ := s.Sweep(t.Context(), 1); n > 0 || s.Writable(t.Context()) == nil {
		t.Error("a write that finds nothing to change counts as the end")
	}

	r.set(t, s, url, "off")
	untilTrue(t, s.db.Healthy) // by KeepClock alone
	if key := get(s.Authenticate(t.Context(), string(secret)))(t); !key.LastUsedAt.After(used) {
		t.Errorf("afterwards last used %s, before %s", key.LastUsedAt, used)
	}
}

// A disk that is full refuses what needs room, and says so.
func TestComplaintOfAFullDisk(t *testing.T) {
	t.Parallel()
	s := get(Open(t.Context(), Config{URL: "sqlite:" + t.TempDir() + "/relay.db", Keys: &seal.Keyring{}}))(t)
	t.Cleanup(func() { _ = s.Close() })
	get(s.Migrate(t.Context()))(t)
	_, err := sqldb.ExecCount(t.Context(), s.db.Writer(), "PRAGMA max_page_count = 1") // as many as there are
	check(t, err)
	for i := 0; err == nil; i++ {
		_, err = s.EnsureTenant(t.Context(), strings.Repeat("a", 1000)+string(rune('a'+i)))
	}
	if !Unavailable(err) || !strings.Contains(Complaint(err), "full") {
		t.Errorf("%v, which is: the database %s", err, Complaint(err))
	}
}

// untilTrue polls the condition, which must become true within what the clock alone needs to
// notice a change.
func untilTrue(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * heartbeatAlone); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}
