package storage

import (
	"errors"
	"strings"
	"testing"
)

// What is sent later is refused by the commit at the latest, together with all else;
// and what is queried sees all that came before it.
func TestLater(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, p *planned) {
		t.Helper()
		ctx := t.Context()
		insert := `INSERT INTO tenants (id, name, created_at) VALUES ($1, $2, 0)`
		made := func() int {
			return len(get(queryAll(ctx, p.reader(), scanString, `SELECT id FROM tenants WHERE created_at = 0`))(t))
		}
		long := strings.Repeat("x", 2*keptArray) // planned for its values, where a text like that is
		for _, refused := range [][]any{{"a", "the same"}, {"b", nil}, {"{" + long + "}", nil}} {
			err := p.write(ctx, func(tx *transaction) error {
				return errors.Join(tx.later(ctx, insert, "a", "once"), tx.later(ctx, insert, refused...))
			})
			if err == nil || Unavailable(err) || errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("%.5s: got %v, want a refusal", refused[0], err)
			}
			if made() != 0 {
				t.Errorf("%.5s: half of it was kept", refused[0])
			}
		}
		check(t, p.write(ctx, func(tx *transaction) error {
			check(t, tx.later(ctx, insert, "{"+long+"}", "long"))
			check(t, tx.later(ctx, insert, "a", "once"))
			if n := get(execCount(ctx, tx, `UPDATE tenants SET created_at = 0 WHERE id <> $1 AND created_at = 0`, "a"))(t); n != 1 {
				t.Errorf("%d rows were there to change, want the one before it", n)
			}
			return tx.later(ctx, insert, "c", "at last")
		}))
		if n := made(); n != 3 {
			t.Errorf("%d rows were kept, want 3", n)
		}
		check(t, p.write(ctx, func(*transaction) error { return nil }))
	})
}
