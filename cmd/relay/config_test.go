package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Everything that is wrong with the configuration is named at once, what is secret
// is not quoted, and nothing is started.
func TestEveryFaultOfTheConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	wrong := environment{
		"RELAY_LISTEN": "nowhere", "RELAY_METRICS_LISTEN": "nowhere:x",
		"RELAY_DATABASE_URL": "mysql://me:pa55word@db/relay", "RELAY_REDIS_URL": "http://:pa55word@cache",
		"RELAY_ENCRYPTION_KEYS": "k1:pa55word", "RELAY_CLOUDFLARE_URL": "ftp://example.com",
		"RELAY_RETENTION": "59s",
		"RELAY_SOURCES":   "/nowhere/mine.yaml", "RELAY_UPSTREAM_URLS": "github=ftp://example.com",
		"RELAY_POLL_MIN": "-1s", "RELAY_POLL_MAX": "soon", "RELAY_POLL_LAG": "2",
		"RELAY_POLL_BUDGET": "120", "RELAY_POLL_EGRESS_BUDGET": "0/1s", "RELAY_UNOBSERVABLE_AFTER": "15",
		"RELAY_RETRY_SCHEDULE": "5s,,1m", "RELAY_DELIVERY_TIMEOUT": "0s", "RELAY_DISABLE_AFTER": "5 days",
		"RELAY_EGRESS_ALLOW": "10.0.0.1/99", "RELAY_CONSOLE_URL": "console", "RELAY_SLACK_URL": "slack.com",
		"RELAY_DATABASE_MAX_CONNS": "3", "RELAY_API_RATE_LIMIT": "100/1500ms", "RELAY_AUTH_FAILURE_LIMIT": "0", "RELAY_TRUSTED_PROXIES": "10.0.0.1",
		"RELAY_LOG_LEVEL": "loud", "RELAY_LOG_FORMAT": "xml",
		"RELAY_TRACES_ENDPOINT": "collector:4318", "RELAY_TRACES_HEADERS": "x-api-key=x,pa55word", "RELAY_TRACES_SAMPLE": "1.5",
		"RELAY_DEBUG_LISTEN": "6060",
		"RELAY_URL":          "relay.example.com", "RELAY_API_KEY": "pa55word",
	}
	names := strings.Fields(call(t.Context(), nil, "config", "variables").stdout)
	if len(names) != len(wrong) {
		t.Errorf("%d variables are known, %d are tested here", len(names), len(wrong))
	}
	var said strings.Builder
	for _, command := range [][]string{{"serve"}, {"wait", "watch_01jd8p5kzve6wbdq8rfg0m3c7x"}} {
		refused := call(t.Context(), wrong, command...)
		if refused.code != exitUsage {
			t.Errorf("%s: exit code %d, want 2", command[0], refused.code)
		}
		said.WriteString(refused.stderr)
	}
	mention(t, said.String(), names...)
	if strings.Contains(said.String(), "pa55word") {
		t.Errorf("a secret is quoted:\n%s", said.String())
	}
}

func TestConfigurationsThatDoNotGoTogether(t *testing.T) {
	t.Parallel()
	const postgres = "postgres://relay:pa55word@127.0.0.1:1/relay"
	for _, c := range []struct {
		name string
		env  environment
		args []string
		says []string
	}{
		{"a flag is named as such", nil, []string{"serve", "--poll-min", "x"}, []string{"--poll-min"}},
		{"a flag that is not one", nil, []string{"serve", "--poll-most", "1s"}, []string{"--poll-most", "relay serve --help"}},
		{"no such command", nil, []string{"sevre"}, []string{"sevre", "serve"}},
		{"an argument too many", nil, []string{"serve", "now"}, []string{"now"}},
		{"the longest delay is the shorter", environment{"RELAY_POLL_MIN": "2m"}, []string{"serve"}, []string{"RELAY_POLL_MIN", "RELAY_POLL_MAX"}},
		{"PostgreSQL without keys", environment{"RELAY_DATABASE_URL": postgres}, []string{"serve"}, []string{"RELAY_ENCRYPTION_KEYS", "openssl"}},
		{"roles apart, embedded", nil, []string{"api"}, []string{"RELAY_DATABASE_URL", "RELAY_REDIS_URL", "relay serve"}},
		{"workers apart, embedded", nil, []string{"worker"}, []string{"RELAY_DATABASE_URL", "RELAY_REDIS_URL", "relay serve"}},
		{"a key without a name", nil, []string{"keys", "create"}, []string{"name"}},
		{"a key with nothing", nil, []string{"keys", "create", "--tenant", "", "--name", "a\nb", "--scope", ""}, []string{"--tenant", "--name", "--scope"}},
		{"no such subcommand", nil, []string{"migrate", "upp"}, []string{"upp", "relay migrate --help"}},
		{"help for no such command", nil, []string{"help", "sevre"}, []string{"sevre", "serve", "relay --help"}},
		{"help for no such subcommand", nil, []string{"help", "migrate", "upp"}, []string{"upp", "relay migrate --help"}},
		{"help for more than a command", nil, []string{"help", "version", "now"}, []string{"now", "relay version --help"}},
		{"completion for no such shell", nil, []string{"completion", "cmd.exe"}, []string{"cmd.exe", "relay completion --help"}},
		{"lists with faults", environment{"RELAY_EGRESS_ALLOW": "x,10.0.0.0/8,y", "RELAY_RETRY_SCHEDULE": "a,1s,b"}, []string{"serve"}, []string{`"x"`, `"y"`, `"a"`, `"b"`}},
		{"a database that is none", environment{"RELAY_DATABASE_URL": "postgres://u:pa55word@:x/y"}, []string{"migrate", "up"}, []string{"RELAY_DATABASE_URL"}},
		{"a header for traces that is none", environment{"RELAY_TRACES_HEADERS": "x key=pa55word,host=x"}, []string{"api"}, []string{`"x key"`, `"host"`}},
		{"definitions with faults", environment{"RELAY_SOURCES": "testdata/wrong.yaml"}, []string{"serve"}, []string{"testdata/wrong.yaml:4: ", "testdata/wrong.yaml:12: "}},
		{"no such definitions", environment{"RELAY_SOURCES": "/nowhere"}, []string{"api"}, []string{"RELAY_SOURCES", "/nowhere"}},
		{"the base of no upstream", environment{"RELAY_UPSTREAM_URLS": "githup=https://example.com"}, []string{"serve"}, []string{`"githup"`, "github"}},
		{"two bases", environment{"RELAY_UPSTREAM_URLS": "cloudflare=https://a.example", "RELAY_CLOUDFLARE_URL": "https://b.example"}, []string{"serve"}, []string{"two bases"}},
		{"bases with faults", environment{"RELAY_UPSTREAM_URLS": "x,github=https://u:pa55word@h,openai=https://a,openai=https://b"}, []string{"serve"}, []string{"UPSTREAM=URL", "github: ", "openai is there twice"}},
		{"no such source", nil, []string{"sources", "show", "github.runs"}, []string{"github.runs", "github.run,"}},
		{"a trial with faults", nil, []string{"sources", "try", "github.run", "--operation-id", "x", "--param", "owner=a/b", "--param", "owned=a"}, []string{"--operation-id", "--param owner has", "--param owned is no", "--param repo is required"}},
		{"one address twice", environment{"RELAY_METRICS_LISTEN": "127.0.0.1:8080"}, []string{"serve"}, []string{"RELAY_METRICS_LISTEN", "127.0.0.1:8080"}},
		{"a simulator with faults", nil, []string{"simulate", "--listen", "zz", "--end", "q", "--misbehave", "m"}, []string{"host:port", `"q"`, `"m"`}},
		{"a simulator of a source with faults", nil, []string{"simulate", "--source", "github.run", "--listen", "zz", "--end", "q", "--misbehave", "m"}, []string{"host:port", `"q"`, `"m"`}},
		{"a simulator of no source", nil, []string{"simulate", "--source", "github.runs"}, []string{"github.runs", "github.run,"}},
		{"a scope that is none", nil, []string{"keys", "create", "--name", "n", "--scope", "root"}, []string{"root", "admin"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			refused := call(t.Context(), c.env, c.args...)
			if refused.code != exitUsage || refused.stdout != "" {
				t.Errorf("exit code %d, want 2; stdout %q", refused.code, refused.stdout)
			}
			mention(t, refused.stderr, c.says...)
			if strings.Contains(refused.stderr, "pa55word") {
				t.Errorf("a secret is quoted:\n%s", refused.stderr)
			}
		})
	}
}

func TestRetentionSetting(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{"90d": 90 * 24 * time.Hour, "1m": time.Minute, "36h": 36 * time.Hour, "none": 0} {
		if c := (config{}); retention(&c.retention)(value) != nil || c.retention != want {
			t.Errorf("%s: %s", value, c.retention)
		}
	}
	for _, value := range []string{"", "59s", "0d", "-1d", "1.5d", "d", "90 d", "1d2h", "99999999d", "never", "0"} {
		if err := retention(new(time.Duration))(value); err == nil {
			t.Errorf("%q is taken", value)
		}
	}
}

func TestMisspeltSettings(t *testing.T) {
	t.Parallel()
	for name, meant := range map[string]string{
		"RELAY_POOL_BUDGET":    "RELAY_POLL_BUDGET",
		"RELAY_LISTNE":         "RELAY_LISTEN",
		"RELAY_ENCRYPTION_KEY": "RELAY_ENCRYPTION_KEYS",
		"RELAY_LOGLEVEL":       "RELAY_LOG_LEVEL",
		"RELAY_POLL_MIM":       "RELAY_POLL_MIN",
		"RELAY_POLL_MAXX":      "RELAY_POLL_MAX",
		"relay_poll_min":       "RELAY_POLL_MIN",
		"RELAY_POLL_MIN":       "",
		"POLL_MIN":             "",
		"RELAY_":               "",
		"RELAY_TAG":            "",
	} {
		if got := meantSetting(name); got != meant {
			t.Errorf("%s is taken for %q, want %q", name, got, meant)
		}
	}
	// What Kubernetes and Docker set beside services of such names.
	for _, service := range []string{"RELAY", "RELAY_API", "RELAY_REDIS", "RELAY_DATABASE", "RELAY_SLACK", "RELAY_CONSOLE", "RELAY_DEBUG"} {
		for _, suffix := range []string{
			"_SERVICE_HOST", "_SERVICE_PORT", "_SERVICE_PORT_HTTP", "_PORT", "_PORT_8080_TCP", "_PORT_8080_TCP_PROTO",
			"_PORT_8080_TCP_PORT", "_PORT_8080_TCP_ADDR", "_NAME", "_ENV_PATH",
		} {
			if meant := meantSetting(service + suffix); meant != "" {
				t.Errorf("%s is taken for %s", service+suffix, meant)
			}
		}
	}
}

// Every command that reads settings warns, also where these are wrong: what is
// missing may be what is misspelt.
func TestMisspeltSettingsAreWarnedOf(t *testing.T) {
	t.Parallel()
	env := environment{
		"RELAY_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "relay.db"), "RELAY_LISTEN": "127.0.0.1:99999",
		"RELAY_POOL_BUDGET": "1", "RELAY_SERVICE_PORT": "80",
	}
	for _, args := range []string{
		"serve", "api", "worker", "migrate up", "migrate status", "keys create --name n", "keys list", "keys revoke x",
		"keys rotate-encryption", "healthcheck",
	} {
		said := call(t.Context(), env, strings.Fields(args)...).stderr
		mention(t, said, "did you mean RELAY_POLL_BUDGET?", `"variable":"RELAY_POOL_BUDGET"`)
		if strings.Contains(said, "RELAY_SERVICE_PORT") {
			t.Errorf("relay %s takes an orchestrator's variable for a setting:\n%s", args, said)
		}
	}
	mention(t, call(t.Context(), env.with("RELAY_LOG_FORMAT", "text"), "keys", "list").stderr, "variable=RELAY_POOL_BUDGET")
}
