package wake

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
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
	e, err := StartEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e.URL()
}

func openRedis(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	client, err := Open(url)
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
	}, "the end of a key")
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

func TestParseURL(t *testing.T) {
	t.Parallel()
	type parsed struct {
		Addrs                     []string
		Username, Password        string
		DB                        int
		Master                    string
		SentinelUsername          string
		SentinelPassword          string
		Cluster, TLS, TLSVerifies bool
	}
	for url, want := range map[string]parsed{
		"redis://127.0.0.1:6379":              {Addrs: []string{"127.0.0.1:6379"}},
		"redis://localhost":                   {Addrs: []string{"localhost:6379"}},
		"redis://:p%40ss@h:1/3":               {Addrs: []string{"h:1"}, Password: "p@ss", DB: 3},
		"redis://user:pass@[::1]:6379/0":      {Addrs: []string{"[::1]:6379"}, Username: "user", Password: "pass"},
		"rediss://h:1":                        {Addrs: []string{"h:1"}, TLS: true, TLSVerifies: true},
		"redis-cluster://a:1,b:2":             {Addrs: []string{"a:1", "b:2"}, Cluster: true},
		"redis-cluster://u:p%2C@a:1,b:2":      {Addrs: []string{"a:1", "b:2"}, Username: "u", Password: "p,", Cluster: true},
		"redis-cluster://a:1?tls=true":        {Addrs: []string{"a:1"}, Cluster: true, TLS: true, TLSVerifies: true},
		"redis-cluster://[::1]:1/0?tls=false": {Addrs: []string{"[::1]:1"}, Cluster: true},
		"redis-sentinel://a:1,b:2?master=m":   {Addrs: []string{"a:1", "b:2"}, Master: "m"},
		"redis-sentinel://:p@a:1/2?master=m&sentinel_username=u&sentinel_password=s%26&tls=true": {
			Addrs: []string{"a:1"}, Password: "p", DB: 2, Master: "m", SentinelUsername: "u", SentinelPassword: "s&", TLS: true, TLSVerifies: true,
		},
	} {
		o, err := parseURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := parsed{
			Addrs: o.Addrs, Username: o.Username, Password: o.Password, DB: o.DB,
			Master: o.MasterName, SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword, Cluster: o.IsClusterMode,
			TLS: o.TLSConfig != nil, TLSVerifies: o.TLSConfig != nil && !o.TLSConfig.InsecureSkipVerify,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
		if err := CheckURL(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestMalformedRedisURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "hunter2", "127.0.0.1:6379", "http://:hunter2@h:1", "redis://:hunter2@h:port", "redis://:hunter2@h:1/x",
		"redis://:hunter2%@h:1", "redis://:hunter2@h:1?hunter2=1", "redis-cluster://:hunter2@h", "redis-cluster://:hunter2@",
		"redis-cluster://:hunter2%zz@h:1", "redis-cluster://hunter2%zz@h:1", "redis-cluster://:hunter2@h:1?%zz",
		"redis-cluster://h:1,hunter2", "redis-sentinel://:hunter2@h:1", "redis-sentinel://:hunter2@h:1/x?master=m",
		"redis-cluster://:hunter2@h:0", "redis-cluster://:hunter2@h:6379x", "redis-cluster://:hunter2@:1", "redis-cluster://:hunter2@h:1/2",
		// What would be heard of too late: no TLS where TLS was meant.
		"redis-cluster://:hunter2@h:1?tls=hunter2", "redis-cluster://:hunter2@h:1?hunter2=true", "redis-cluster://:hunter2@h:1?master=m",
		"redis-sentinel://:hunter2@h:1?master=m&Tls=true", "rediss-cluster://:hunter2@h:1",
	} {
		_, err := Open(url)
		if err == nil || CheckURL(url) == nil {
			t.Errorf("%s is taken", url)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error quotes it: %v", url, err)
		}
	}
}
