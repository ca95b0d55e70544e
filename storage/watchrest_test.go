package storage

import (
	"path/filepath"
	"testing"
	"time"
)

// TestManyAreTouched: of the watches that a poll concerns, a transaction changes no
// more than its share, whatever it changes of them.
func TestManyAreTouched(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	ring := get(ParseKeyring(NewKey()))(t)
	url := "sqlite:" + filepath.Join(t.TempDir(), "relay.db")
	s := get(Open(t.Context(), Config{URL: url, Keys: ring, Now: func() time.Time { return now }}))(t)
	t.Cleanup(func() { _ = s.Close() })
	get(s.Migrate(t.Context()))(t)
	p := newPlanned(t, s, &now, "acme")
	p.register(5)
	var refs []string
	for _, poll := range p.polls(5, nil) {
		refs = append(refs, poll.RowID)
	}
	now = now.Add(time.Hour)
	get(p.LastPolls(t.Context(), 5))(t)
	check(t, p.write(t.Context(), func(tx *transaction) error {
		if _, err := tx.ExecContext(t.Context(), `UPDATE operations SET last_polled_at = $1`, p.Steady().UnixMicro()); err != nil {
			return err
		}
		if err := tx.expirePolled(t.Context(), refs, 2); err != nil {
			return err
		}
		return tx.showOperations(t.Context(), refs, 3)
	}))
	for query, want := range map[string]int{
		`SELECT COUNT(*) FROM watches WHERE expire_at = 0`:       2,
		`SELECT COUNT(*) FROM slack_messages WHERE revision = 2`: 3,
	} {
		var n int
		check(t, s.db.read.QueryRowContext(t.Context(), query).Scan(&n))
		if n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	if n := get(p.ExpireWatches(t.Context(), 10))(t); n != 2 {
		t.Errorf("%d watches expired", n)
	}
	now = now.Add(lastPollPatience)
	if n := get(p.ExpireWatches(t.Context(), 10))(t); n != 3 {
		t.Errorf("%d watches expired later", n)
	}
}
