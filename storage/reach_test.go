package storage

import (
	"testing"

	"oprelay/deploy/testenv"
)

// Every connection tells the server our limits; those of migrations do not.
func TestSessionSettings(t *testing.T) {
	t.Parallel()
	db, err := open(Config{URL: testenv.Postgres(t), Keys: &Keyring{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.write.Close() })
	patient := db.patient()
	t.Cleanup(func() { _ = patient.Close() })
	for name, want := range map[string]string{
		"statement_timeout": "10s", "idle_in_transaction_session_timeout": "5s", "idle_session_timeout": "45s",
		"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
	} {
		var got, unlimited string
		if err := db.write.QueryRowContext(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if err := patient.QueryRowContext(t.Context(), "SELECT current_setting($1)", name).Scan(&unlimited); err != nil {
			t.Fatal(err)
		}
		if got != want || unlimited == want {
			t.Errorf("%s is %s, want %s; for migrations it is %s", name, got, want, unlimited)
		}
	}
}
