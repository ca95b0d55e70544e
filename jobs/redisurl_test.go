package jobs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRedisURL(t *testing.T) {
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
		o, err := parseRedisURL(url)
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
		if err := CheckRedisURL(url); err != nil {
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
		_, err := OpenRedis(url)
		if err == nil || CheckRedisURL(url) == nil {
			t.Errorf("%s is taken", url)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error quotes it: %v", url, err)
		}
	}
}
