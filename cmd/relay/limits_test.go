package main

import (
	"context"
	"net/http"
	"testing"

	"oprelay/deploy/testenv"
)

// The limits hold over all processes, and one process keeps them without Redis.
// A key that no process has seen is not locked out by wrong ones of its address.
func TestLimitsOfTheAPI(t *testing.T) {
	t.Parallel()
	limits := []string{"RELAY_API_RATE_LIMIT", "4/1h", "RELAY_AUTH_FAILURE_LIMIT", "2/1h", "RELAY_TRUSTED_PROXIES", "127.0.0.0/8"}
	for name, start := range map[string]func(t *testing.T) (first, second *relay, key string){
		"one process, embedded": func(t *testing.T) (first, second *relay, key string) {
			t.Helper()
			s := startEmbedded(t, newSurroundings(t), limits...)
			return s.server, s.server, s.key
		},
		"two processes": func(t *testing.T) (first, second *relay, key string) {
			t.Helper()
			s := startSeparate(t, newSurroundings(t), testenv.Redis(t), 0, limits...)
			return s.server, startRelay(t, s.folder, s.env, "api"), s.key
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second, key := start(t)
			ask := func(at *relay, key string) int {
				t.Helper()
				answer, err := at.client(key).ListWatchesWithResponse(t.Context(), nil, func(_ context.Context, r *http.Request) error {
					r.Header.Set("X-Forwarded-For", "192.0.2.1")
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				return answer.StatusCode()
			}
			wanted := []struct {
				at     *relay
				key    string
				status int
			}{
				{first, "relay_unknown", 401},
				{second, "relay_unknown", 401},
				{first, "relay_unknown", 429},
				{second, "relay_unknown", 429},
				{first, key, 200},
				{second, key, 200},
				{first, key, 200},
				{second, key, 200},
				{first, key, 429},
				{second, key, 429},
			}
			for i, w := range wanted {
				if got := ask(w.at, w.key); got != w.status {
					t.Errorf("request %d: %d, want %d", i, got, w.status)
				}
			}
		})
	}
}
