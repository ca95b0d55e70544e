package sqldb

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestUnavailableByCode: what PostgreSQL says decides whether to come back later.
func TestUnavailableByCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"08006": true,  // connection_failure
		"25006": true,  // read_only_sql_transaction
		"25P03": true,  // idle_in_transaction_session_timeout
		"40001": true,  // serialization_failure
		"53100": true,  // disk_full
		"53300": true,  // too_many_connections
		"57014": true,  // query_canceled
		"57P01": true,  // admin_shutdown
		"57P02": true,  // crash_shutdown
		"57P03": true,  // cannot_connect_now
		"57P04": true,  // database_dropped
		"57P05": true,  // idle_session_timeout
		"58030": true,  // io_error
		"22P02": false, // invalid_text_representation
		"23505": false, // unique_violation
		"42P01": false, // undefined_table
		"57000": false, // operator_intervention
	} {
		err := fmt.Errorf("some operation: %w", &pgconn.PgError{Code: code})
		if Unavailable(err) != want {
			t.Errorf("SQLSTATE %s: Unavailable is %t, want %t", code, !want, want)
		}
	}
}
