package storage

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// What is sent later is refused by the commit at the latest, together with all else;
// and what is queried sees all that came before it.
func TestLater(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *planned) {
		t.Helper()
		ctx := t.Context()
		insert := `INSERT INTO budgets (id, slots, planned_at) VALUES ($1, $2, -1)`
		made := func() int {
			return len(get(sqldb.All(ctx, p.reader(), sqldb.String, `SELECT id FROM budgets WHERE planned_at = -1`))(t))
		}
		planned := func(tx *transaction, id string) error { // for its values, so it is sent at once
			var args sqldb.Args
			query := `INSERT INTO budgets (id, slots, planned_at) SELECT CAST(` + args.Add(id) + ` AS TEXT), '', -1 WHERE `
			return tx.Later(query+tx.InTexts(&args, `'y'`, strings.Split(strings.Repeat("y", 100), "")), args...)
		}
		const a, b, c = "a", "b", "c"
		for name, refused := range map[string]func(*transaction) error{
			"the same": func(tx *transaction) error { return tx.Later(insert, a, "again") },
			"NULL":     func(tx *transaction) error { return tx.Later(insert, b, nil) },
			"planned":  func(tx *transaction) error { return planned(tx, a) },
		} {
			err := p.write(ctx, func(tx *transaction) error {
				return errors.Join(tx.Later(insert, a, "once"), refused(tx))
			})
			if err == nil || Unavailable(err) || errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("%s: got %v, want a refusal", name, err)
			}
			if made() != 0 {
				t.Errorf("%s: half of it was kept", name)
			}
		}
		check(t, p.write(ctx, func(tx *transaction) error {
			check(t, planned(tx, b))
			check(t, tx.Later(insert, a, "once"))
			if n := get(sqldb.ExecCount(ctx, tx, `UPDATE budgets SET planned_at = -1 WHERE id <> $1 AND planned_at = -1`, a))(t); n != 1 {
				t.Errorf("%d rows were there to change, want the one before it", n)
			}
			return tx.Later(insert, c, "at last")
		}))
		if n := made(); n != 3 {
			t.Errorf("%d rows were kept, want 3", n)
		}
		check(t, p.write(ctx, func(*transaction) error { return nil }))
	})
}

// A server that stops may tell so after it has said that the transaction is committed:
// then it is.
func TestCommittedBeforeTheServerStopped(t *testing.T) {
	t.Parallel()
	// The commit waits for a moment, as for a disk, with the order to stop behind it.
	server := testenv.StartPostgresServer(t, "fsync=on", "commit_delay=50000", "commit_siblings=0")
	s := get(Open(t.Context(), Config{URL: server.URL, Keys: get(seal.ParseKeyring(seal.NewKey()))(t)}))(t)
	t.Cleanup(func() { check(t, s.Close()) })
	get(s.Migrate(t.Context()))(t)
	const kill = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE pid <> pg_backend_pid() AND state = 'active' AND query = 'COMMIT'`
	admin := get(sql.Open("pgx", server.URL))(t)
	t.Cleanup(func() { _ = admin.Close() })
	killed := int64(0)
	for killed < 5 {
		name, told := rand.Text(), make(chan error, 1)
		go func() { _, err := s.EnsureTenant(t.Context(), name); told <- err }()
		var err error
		for done := false; !done; {
			n := get(sqldb.Int(admin.QueryRowContext(t.Context(), kill)))(t)
			killed += n
			select {
			case err = <-told:
				done = true
			default:
			}
		}
		kept := get(sqldb.Int(admin.QueryRowContext(t.Context(), `SELECT count(*) FROM tenants WHERE name = $1`, name)))(t) == 1
		if !errors.Is(err, ErrOutcomeUnknown) && (err == nil) != kept {
			t.Fatalf("kept: %t, and the caller is told %v", kept, err)
		}
	}
}
