package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage"
)

// Everything that is wrong with the configuration is named at once, what is secret
// is not quoted, and nothing is started.
func TestEveryFaultOfTheConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	wrong := environment{
		"RELAY_LISTEN": "nowhere", "RELAY_METRICS_LISTEN": "nowhere:x",
		"RELAY_DATABASE_URL": "mysql://me:pa55word@db/relay", "RELAY_REDIS_URL": "http://:pa55word@cache",
		"RELAY_ENCRYPTION_KEYS": "k1:pa55word", "RELAY_CLOUDFLARE_URL": "ftp://example.com",
		"RELAY_POLL_MIN": "-1s", "RELAY_POLL_MAX": "soon", "RELAY_POLL_LAG": "2",
		"RELAY_POLL_BUDGET": "120", "RELAY_POLL_EGRESS_BUDGET": "0/1s", "RELAY_UNOBSERVABLE_AFTER": "15",
		"RELAY_RETRY_SCHEDULE": "5s,,1m", "RELAY_DELIVERY_TIMEOUT": "0s", "RELAY_DISABLE_AFTER": "5 days",
		"RELAY_EGRESS_ALLOW": "10.0.0.1/99", "RELAY_CONSOLE_URL": "console", "RELAY_SLACK_URL": "slack.com",
		"RELAY_DATABASE_MAX_CONNS": "3", "RELAY_API_RATE_LIMIT": "100/1500ms", "RELAY_AUTH_FAILURE_LIMIT": "0", "RELAY_TRUSTED_PROXIES": "10.0.0.1",
		"RELAY_LOG_LEVEL": "loud", "RELAY_LOG_FORMAT": "xml",
		"RELAY_TRACES_ENDPOINT": "collector:4318", "RELAY_TRACES_HEADERS": "x-api-key=x,pa55word", "RELAY_TRACES_SAMPLE": "1.5",
		"RELAY_DEBUG_LISTEN": "6060",
	}
	names := strings.Fields(call(t.Context(), nil, "config", "variables").stdout)
	if len(names) != len(wrong) {
		t.Errorf("%d variables are known, %d are tested here", len(names), len(wrong))
	}
	refused := call(t.Context(), wrong, "serve")
	if refused.code != exitUsage {
		t.Errorf("exit code %d, want 2", refused.code)
	}
	mention(t, refused.stderr, names...)
	if strings.Contains(refused.stderr, "pa55word") {
		t.Errorf("a secret is quoted:\n%s", refused.stderr)
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
		{"lists with faults", environment{"RELAY_EGRESS_ALLOW": "x,10.0.0.0/8,y", "RELAY_RETRY_SCHEDULE": "a,1s,b"}, []string{"serve"}, []string{`"x"`, `"y"`, `"a"`, `"b"`}},
		{"a database that is none", environment{"RELAY_DATABASE_URL": "postgres://u:pa55word@:x/y"}, []string{"migrate", "up"}, []string{"RELAY_DATABASE_URL"}},
		{"a header for traces that is none", environment{"RELAY_TRACES_HEADERS": "x key=pa55word,host=x"}, []string{"api"}, []string{`"x key"`, `"host"`}},
		{"one address twice", environment{"RELAY_METRICS_LISTEN": "127.0.0.1:8080"}, []string{"serve"}, []string{"RELAY_METRICS_LISTEN", "127.0.0.1:8080"}},
		{"a simulator with faults", nil, []string{"simulate", "--listen", "zz", "--end", "q", "--misbehave", "m"}, []string{"host:port", `"q"`, `"m"`}},
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

// The roles apart start on no schema but their own.
func TestSchemaHasToFit(t *testing.T) {
	t.Parallel()
	env := environment{
		"RELAY_DATABASE_URL": testenv.Postgres(t), "RELAY_REDIS_URL": testenv.Redis(t),
		"RELAY_ENCRYPTION_KEYS": storage.NewKey(), "RELAY_LISTEN": "127.0.0.1:0",
	}
	refuse := func(says ...string) {
		t.Helper()
		for _, role := range []string{"api", "worker"} {
			refused := call(t.Context(), env, role)
			if refused.code != exitError {
				t.Errorf("relay %s: exit code %d, want 1", role, refused.code)
			}
			mention(t, refused.stderr, says...)
		}
	}
	tell := func(says string, args ...string) {
		t.Helper()
		told := call(t.Context(), env, args...)
		if told.code != exitOK {
			t.Errorf("%v: exit code %d: %s", args, told.code, told.stderr)
		}
		mention(t, told.stdout, says)
	}
	refuse("pending", "relay migrate up")
	tell("pending  00001_", "migrate", "status")
	tell("applied 00001_", "migrate", "up")
	tell("nothing to apply", "migrate", "up")

	newer := "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)"
	if printed, err := exec.CommandContext(t.Context(), "psql", "-X", "-d", env["RELAY_DATABASE_URL"], "-c", newer).CombinedOutput(); err != nil {
		t.Fatalf("psql: %v: %s", err, printed)
	}
	refuse("newer", "99999", "run a newer relay")
	tell("run a newer relay", "migrate", "status")
}

// A first start makes a database, a key file and a key; the next one uses them.
func TestFirstStartAndTheNext(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	keyFile := filepath.Join(s.folder, "relay.key")
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("relay.key: %v, %v, want mode 0600", info, err)
	}
	spec, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.server.Stderr.String(), strings.TrimSpace(string(spec))) {
		t.Error("the encryption key is in the log")
	}
	if n := strings.Count(s.server.Stderr.String(), s.key); s.key == "" || n != 1 {
		t.Errorf("the API key is printed %d times, want once", n)
	}
	credential := s.credential(t, "pa55word")
	s.server.Stop()
	s.restart()
	if again := s.server.firstKey(); again != "" {
		t.Error("the second start prints a key too")
	}
	kept, err := s.api.GetCredentialWithResponse(t.Context(), credential)
	want(t, http.StatusOK, err, kept)
	s.server.Stop()
	if log := s.server.Stderr.String(); strings.Contains(log, s.key) || strings.Contains(log, "pa55word") {
		t.Errorf("a secret is in the log:\n%s", log)
	}

	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	lost := spawn(t, s.folder, s.env, "serve")
	if code := lost.Wait(startLimit); code != exitError {
		t.Errorf("exit code %d without the key file, want 1", code)
	}
	mention(t, lost.Stderr.String(), "relay.key", "restore it", "RELAY_ENCRYPTION_KEYS")
}

// A SQLite database is for one relay, and for the keys that sealed its secrets.
func TestDatabaseIsForOneRelayAndItsKeys(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	s.credential(t, "pa55word")
	second := spawn(t, s.folder, s.env, "serve")
	if code := second.Wait(startLimit); code != exitError {
		t.Errorf("exit code %d beside another relay, want 1", code)
	}
	mention(t, second.Stderr.String(), "another relay serve uses")
	s.server.Stop()
	foreign := spawn(t, s.folder, s.env.with("RELAY_ENCRYPTION_KEYS", storage.NewKey()), "serve")
	if code := foreign.Wait(startLimit); code != exitError {
		t.Errorf("exit code %d with keys that open nothing, want 1", code)
	}
	mention(t, foreign.Stderr.String(), "RELAY_ENCRYPTION_KEYS lacks")
}

// What cannot be printed is no success: the key would be lost.
func TestOutputThatFails(t *testing.T) {
	t.Parallel()
	unwritable, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unwritable.Close() })
	env := environment{"RELAY_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "relay.db")}
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"keys", "create", "--name", "n"}, func(name string) string { return env[name] }, unwritable, &stderr)
	if code != exitError || !strings.Contains(stderr.String(), "write the output") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

// A port that is taken ends the start, with nothing left running.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	second := spawn(t, t.TempDir(), s.env.with("RELAY_LISTEN", s.server.address), "serve")
	if code := second.Wait(startLimit); code != exitError {
		t.Errorf("exit code %d, want 1", code)
	}
	mention(t, second.Stderr.String(), s.server.address)
}

// Two relays in one program know nothing of each other.
func TestTwoRelaysInOneProgram(t *testing.T) {
	t.Parallel()
	around := newSurroundings(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var relays [2]*relay
	var codes [2]chan int
	for i := range relays {
		r := &relay{t: t, Program: &testenv.Program{Stderr: testenv.NewOutput(), Ended: make(chan struct{})}}
		env := around.environment().with("RELAY_DATABASE_URL", "sqlite:"+filepath.Join(t.TempDir(), "relay.db"))
		codes[i] = make(chan int, 1)
		go func() {
			defer close(r.Ended)
			codes[i] <- run(ctx, []string{"serve"}, func(name string) string { return env[name] }, r.Stderr, r.Stderr)
		}()
		r.awaitUp(t, "serve")
		relays[i] = r
	}
	for i, r := range relays {
		own, err := r.client(r.firstKey()).ListWatchesWithResponse(t.Context(), nil)
		want(t, http.StatusOK, err, own)
		other, err := r.client(relays[1-i].firstKey()).ListWatchesWithResponse(t.Context(), nil)
		want(t, http.StatusUnauthorized, err, other)
	}
	stop()
	for i := range codes {
		if code := <-codes[i]; code != exitOK {
			t.Errorf("exit code %d, want 0:\n%s", code, relays[i].Stderr)
		}
	}
}
