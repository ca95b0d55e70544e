package chaos

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
)

// slow is what a slow network adds to every answer.
const slow = 300 * time.Millisecond

// Redis loses all it has, stands still, or cannot be reached. Registrations go on,
// or are answered 503 and leave nothing behind.
func TestRedisFails(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	proxy := testenv.StartProxy(t, server.URL)
	r := newRig(t, testenv.Postgres(t), proxy.URL, 3)
	for i, f := range []fault{
		{name: "Redis: FLUSHALL", inject: func(t *testing.T, e *episode) {
			t.Helper()
			flush(t, server.URL)
			e.recovered()
		}},
		{name: "Redis: killed, and started again empty", inject: func(t *testing.T, e *episode) {
			t.Helper()
			server.Kill()
			await(t, theForm().spell)
			server.Restart()
			e.recovered()
		}},
		{name: "Redis: stopped (SIGSTOP)", inject: func(t *testing.T, e *episode) {
			t.Helper()
			server.Pause()
			await(t, theForm().stopped)
			server.Resume()
			e.recovered()
		}},
		{name: "Redis: connections cut, again and again", inject: func(t *testing.T, e *episode) {
			t.Helper()
			for range 10 {
				proxy.Cut()
				await(t, theForm().spell/10)
			}
			e.recovered()
		}},
		{name: "Redis: refuses connections", inject: func(t *testing.T, e *episode) {
			t.Helper()
			proxy.Refuse()
			await(t, theForm().spell)
			proxy.Restore()
			e.recovered()
		}},
		{name: "Redis: slow", inject: func(t *testing.T, e *episode) {
			t.Helper()
			proxy.Slow(slow)
			await(t, theForm().spell)
			proxy.Restore()
			e.recovered()
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			f.order, f.refusal = 20+i, leave
			r.endure(t, f)
		})
	}
}

func flush(t *testing.T, url string) {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}
