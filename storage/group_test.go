package storage

import (
	"context"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// What must be on the disk before anything is done about it waits for the disk; what a
// later commit takes there, or what only ends a lease early, does not.
func TestCommitsThatWaitForNoDisk(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := get(Open(t.Context(), Config{URL: testenv.Postgres(t) + "&synchronous_commit=local", Keys: get(seal.ParseKeyring(seal.NewKey()))(t)}))(t)
	t.Cleanup(func() { _ = s.Close() })
	get(s.Migrate(t.Context()))(t)
	p := newPlanned(t, s, &now, "acme")
	p.register(1)
	p.end(p.polls(1, nil))
	for _, statement := range []string{
		`CREATE TABLE commits (setting TEXT)`,
		`CREATE FUNCTION note_commit() RETURNS TRIGGER LANGUAGE plpgsql AS
			$$BEGIN INSERT INTO commits VALUES (current_setting('synchronous_commit')); RETURN NULL; END$$`,
		`CREATE TRIGGER note_commit AFTER UPDATE ON work_groups FOR EACH ROW EXECUTE FUNCTION note_commit()`,
		`CREATE TRIGGER note_commit AFTER INSERT OR UPDATE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION note_commit()`,
	} {
		get(sqldb.ExecCount(t.Context(), s.db.Writer(), statement))(t)
	}
	poll, deliver := Group{PollGroup, p.credential.BudgetID}, Group{DeliverGroup, p.destination.ID}
	lease := func(ctx context.Context, s *Store, group Group) error {
		_, err := s.LeaseGroup(ctx, group, owner, time.Minute)
		return err
	}
	release := func(group Group, notBefore time.Time) func(ctx context.Context, s *Store) error {
		return func(ctx context.Context, s *Store) error {
			_, err := s.ReleaseGroup(ctx, group, owner, Pause{Until: notBefore})
			return err
		}
	}
	key := IdempotencyKey{TenantID: p.tenant, Key: "k", Fingerprint: []byte("f")}
	reserve := func(ctx context.Context, s *Store) error {
		_, err := s.ReserveAnswer(ctx, key)
		return err
	}
	for _, step := range []struct {
		name string
		do   func(ctx context.Context, s *Store) error
		want string
	}{
		{"reserve a key", reserve, "off"},
		{"keep the answer", func(ctx context.Context, s *Store) error { return s.KeepAnswer(ctx, key, Answer{}) }, "local"},
		{"reserve a key within a transaction of more", func(ctx context.Context, s *Store) error {
			key.Key = "another"
			return s.Atomically(ctx, func(tx *Store) error { return reserve(ctx, tx) })
		}, "local"},
		{"give a lease back", release(poll, time.Time{}), "off"},
		{"lease polls, whose charge is a commit", func(ctx context.Context, s *Store) error { return lease(ctx, s, poll) }, "off"},
		{"lease deliveries", func(ctx context.Context, s *Store) error { return lease(ctx, s, deliver) }, "local"},
		{"give a lease back, with a limit", release(deliver, s.Steady().Add(time.Hour)), "local"},
		{"within a transaction of more", func(ctx context.Context, s *Store) error {
			return s.Atomically(ctx, func(tx *Store) error { return release(poll, time.Time{})(ctx, tx) })
		}, "local"},
	} {
		check(t, step.do(t.Context(), s))
		settings := get(sqldb.All(t.Context(), s.reader(), sqldb.String, `SELECT setting FROM commits`))(t)
		if len(settings) != 1 || settings[0] != step.want {
			t.Errorf("%s: synchronous_commit was %v, want %s", step.name, settings, step.want)
		}
		get(sqldb.ExecCount(t.Context(), s.db.Writer(), `DELETE FROM commits`))(t)
	}
	for range 2 * s.Pools()["all"].OpenConnections {
		if left := get(sqldb.One(t.Context(), s.db, sqldb.String, `SELECT current_setting('synchronous_commit')`))(t); left != "local" {
			t.Errorf("it stayed %s in a session", left)
		}
	}
}

// Updates of many rows are planned for what is in the table now. A plan that was kept from
// when it held a handful of rows reads all of it, for each batch.
func TestUpdatesOfManyRowsKeepNoPlan(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := get(Open(t.Context(), Config{URL: testenv.Postgres(t), MaxConns: 1, Keys: get(seal.ParseKeyring(seal.NewKey()))(t)}))(t)
	t.Cleanup(func() { _ = s.Close() })
	get(s.Migrate(t.Context()))(t)
	p := newPlanned(t, s, &now, "acme")
	p.register(101)
	running := PollResult{RowID: p.polls(1, nil)[0].RowID, At: p.Steady(), Status: OperationRunning, Next: p.Steady()}
	check(t, p.RecordPolls(t.Context(), []PollResult{running}))
	p.end(p.polls(1, nil))
	p.end(p.polls(100, nil))
	p.attempt(p.deliveries(p.destination, 101, nil), DeliverySucceeded)
	kept := get(sqldb.All(t.Context(), s.db, sqldb.String, `SELECT statement FROM pg_prepared_statements
		WHERE statement ~ '^(UPDATE|DELETE) .*FROM unnest\(' AND generic_plans + custom_plans > 0`))(t)
	if len(kept) > 0 {
		t.Errorf("kept: %q", kept)
	}
	one := get(sqldb.All(t.Context(), s.db, sqldb.String, `SELECT statement FROM pg_prepared_statements
		WHERE statement LIKE 'UPDATE open_operations%VALUES%' AND generic_plans + custom_plans > 0`))(t)
	if len(one) == 0 {
		t.Error("an update of one row is planned each time")
	}
}
