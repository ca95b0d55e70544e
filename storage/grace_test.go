package storage

import (
	"path/filepath"
	"testing"
	"time"

	"oprelay/deploy/testenv"
)

// TestGapEndsOnce: whoever dies between two chunks of the graces that a gap is left
// out of has the next go on, and each is moved once.
func TestGapEndsOnce(t *testing.T) {
	t.Parallel()
	for backend, newURL := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { t.Helper(); return "sqlite:" + filepath.Join(t.TempDir(), "relay.db") },
		"postgres": func(t *testing.T) string { t.Helper(); return testenv.Postgres(t) },
	} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			gapEndsOnce(t, newURL(t))
		})
	}
}

func gapEndsOnce(t *testing.T, url string) {
	t.Helper()
	const many, gap = graceChunk + 100, time.Hour
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	ring := get(ParseKeyring(NewKey()))(t)
	s := get(Open(t.Context(), Config{URL: url, Keys: ring, Now: func() time.Time { return now }}))(t)
	t.Cleanup(func() { _ = s.Close() })
	get(s.Migrate(t.Context()))(t)
	check(t, s.JoinClock(t.Context()))
	p := newPlanned(t, s, &now, "acme")
	p.register(many)
	refused := s.Steady()
	for _, column := range []string{"refused_since", "last_poll_asked_at"} {
		get(s.db.write.ExecContext(t.Context(), `UPDATE operations SET `+column+` = $1`, refused.UnixMicro()))(t)
	}
	get(s.db.write.ExecContext(t.Context(), `UPDATE watches SET expire_at = $1`, refused.UnixMicro()))(t)
	end := refused.Add(2 * gap).UnixMicro()
	check(t, s.write(t.Context(), func(tx *transaction) error { return tx.leaveGapOut(t.Context(), gap, end) }))
	check(t, s.write(t.Context(), func(tx *transaction) error {
		return tx.extendGraces(t.Context(), gapLeft{length: gap.Microseconds(), end: end})
	}))
	moved := refused.Add(gap).UnixMicro()
	count := func() int64 {
		return get(queryOne(t.Context(), s.db.read, scanInt, `SELECT
			(SELECT COUNT(*) FROM operations WHERE refused_since = $1 AND last_poll_asked_at = $1) +
			(SELECT COUNT(*) FROM watches WHERE expire_at = $1)`, moved))(t)
	}
	if n := count(); n != graceChunk {
		t.Errorf("%d graces moved by the first chunk, want %d", n, graceChunk)
	}
	for range 2 {
		check(t, s.JoinClock(t.Context()))
		if n := count(); n != 2*many {
			t.Errorf("%d graces moved once, want %d", n, 2*many)
		}
	}
}
