package chaos

import (
	"strings"
	"testing"

	"oprelay/deploy/testenv"
)

// On a schema that is not its own no process starts, and each says what to run.
// Those that run already go on.
func TestSchemaDoesNotFit(t *testing.T) {
	t.Parallel()
	database := testenv.Postgres(t)
	r := newRig(t, database, testenv.Redis(t), 3)
	r.endure(t, fault{order: 75, name: "another version of the schema, beside processes that run", inject: func(t *testing.T, e *episode) {
		t.Helper()
		for _, schema := range []struct{ made, unmade, says string }{
			{
				"INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)",
				"DELETE FROM goose_db_version WHERE version_id = 99999",
				"run a newer relay",
			},
			{
				"UPDATE goose_db_version SET version_id = -version_id WHERE version_id = (SELECT MAX(version_id) FROM goose_db_version)",
				"UPDATE goose_db_version SET version_id = -version_id WHERE version_id < 0",
				"relay migrate up",
			},
			{ // as a migration that was edited leaves it
				"ALTER INDEX open_operations_identity RENAME TO edited",
				"ALTER INDEX edited RENAME TO open_operations_identity",
				"lacks the unique index open_operations_identity",
			},
		} {
			testenv.Execute(t, database, schema.made)
			for _, role := range []string{"api", "worker"} {
				p := e.spawn(role)
				if code := p.Wait(patience); code != 1 || !strings.Contains(p.Stderr.String(), schema.says) {
					t.Errorf("relay %s after %s: exit code %d, want 1 and %q\n%s", role, schema.made, code, schema.says, p.Stderr)
				}
			}
			testenv.Execute(t, database, schema.unmade)
		}
		e.recovered()
	}})
}
