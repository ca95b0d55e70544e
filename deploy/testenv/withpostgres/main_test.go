package main

import (
	"testing"

	"oprelay/deploy/testenv"
)

func TestRun(t *testing.T) {
	t.Setenv(databaseURLVariable, testenv.Postgres(t)) // skips where there is none
	tests := []struct {
		name    string
		server  string // "" = a new one
		command []string
		code    int
		fails   bool
	}{
		{"its own server", "", []string{"sh", "-c", `psql -Xqd "$RELAY_TEST_DATABASE_URL" -c 'SELECT 1' >/dev/null && exit 7`}, 7, false},
		{"a given server", "postgres://elsewhere/", []string{"sh", "-c", `test "$RELAY_TEST_DATABASE_URL" = postgres://elsewhere/`}, 0, false},
		{"no such command", "postgres://elsewhere/", []string{"/does/not/exist"}, exitFailure, true},
		{"ended by a signal", "postgres://elsewhere/", []string{"sh", "-c", "kill -9 $$"}, exitFailure, true},
		{"no command", "", nil, exitFailure, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(databaseURLVariable, tt.server)
			code, err := run(tt.command)
			if code != tt.code || (err != nil) != tt.fails {
				t.Errorf("run(%q) = %d, %v; want %d", tt.command, code, err, tt.code)
			}
		})
	}
}
