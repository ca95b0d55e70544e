package jobs

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestPauseAfterScriptError(t *testing.T) {
	t.Parallel()
	oom, noScript := redis.Error(redisError("OOM command not allowed")), redis.Error(redisError("NOSCRIPT No matching script"))
	for _, test := range []struct {
		name    string
		command []any
		err     error
		want    time.Duration
	}{
		{"a script that fails", []any{"evalsha", "abc"}, oom, scriptPause},
		{"a script without connection", []any{"eval", "return 1"}, errors.New("refused"), scriptPause},
		{"a script that succeeds", []any{"evalsha", "abc"}, nil, 0},
		{"a script that finds nothing", []any{"evalsha", "abc"}, redis.Nil, 0},
		{"a script not loaded yet", []any{"evalsha", "abc"}, noScript, 0},
		{"another command", []any{"get", "key"}, oom, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				process := pauseAfterScriptError{}.ProcessHook(func(context.Context, redis.Cmder) error { return test.err })
				began := time.Now()
				if err := process(t.Context(), redis.NewCmd(t.Context(), test.command...)); !errors.Is(err, test.err) {
					t.Errorf("got %v", err)
				}
				if paused := time.Since(began); paused != test.want {
					t.Errorf("paused for %v, want %v", paused, test.want)
				}
			})
		})
	}
}

// redisError is an answer of Redis.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

func embedded(t *testing.T) string {
	t.Helper()
	e, err := StartEmbeddedRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e.URL()
}

func openRedis(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	client, err := OpenRedis(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestEmbeddedRedisExpiresKeys(t *testing.T) {
	t.Parallel()
	client := openRedis(t, embedded(t))
	if err := client.Set(t.Context(), "key", "value", time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		return errors.Is(client.Get(t.Context(), "key").Err(), redis.Nil)
	}, nil, "the end of a key")
}

func TestEmbeddedRedisNeedsItsPassword(t *testing.T) {
	t.Parallel()
	url := embedded(t)
	scheme, rest, _ := strings.Cut(url, "://")
	_, address, _ := strings.Cut(rest, "@")
	for _, url := range []string{scheme + "://" + address, scheme + "://:wrong@" + address} {
		if err := openRedis(t, url).Ping(t.Context()).Err(); err == nil {
			t.Errorf("%s gets in", url)
		}
	}
	if other := embedded(t); strings.HasPrefix(other, strings.TrimSuffix(url, address)) {
		t.Error("two have the same password")
	}
}
