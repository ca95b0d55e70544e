package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	r := spawn(t, t.TempDir(), nil, "version")
	if code := r.Wait(startLimit); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	mention(t, r.Stdout.String(), "relay "+testVersion+"\n", "commit "+testCommit+"\n", runtime.Version())
}

// Every command explains itself, and the root names every command.
func TestHelp(t *testing.T) {
	t.Parallel()
	root := call(t.Context(), nil, "--help")
	for command, says := range map[string][]string{
		"serve":                  {"--listen", "RELAY_LISTEN", "--poll-min", "SIGTERM", "relay.db"},
		"api":                    {"--redis-url", "relay migrate up", "migrations"},
		"worker":                 {"--delivery-timeout", "RELAY_METRICS_LISTEN", "migrations"},
		"migrate":                {"up", "status"},
		"migrate up":             {"--database-url", "RELAY_DATABASE_URL"},
		"migrate status":         {"--database-url"},
		"keys":                   {"create", "list", "revoke", "new-encryption", "rotate-encryption"},
		"keys create":            {"--tenant", "--name", "--scope", "admin"},
		"keys list":              {"--json"},
		"keys revoke":            {"ID"},
		"keys new-encryption":    {"--file", "RELAY_ENCRYPTION_KEYS"},
		"keys rotate-encryption": {"--forget-unopened", "Restart them all", "backups"},
		"simulate":               {"--misbehave", "RELAY_CLOUDFLARE_URL", "not_found"},
		"demo":                   {"--keep", "Exit 0 only if"},
		"healthcheck":            {"RELAY_METRICS_LISTEN"},
		"environment":            strings.Fields(call(t.Context(), nil, "config", "variables").stdout),
	} {
		help := call(t.Context(), nil, append(strings.Fields(command), "--help")...)
		if help.code != exitOK || help.stderr != "" {
			t.Errorf("relay %s --help: exit code %d, stderr %q", command, help.code, help.stderr)
		}
		mention(t, help.stdout, says...)
		mention(t, root.stdout, strings.Fields(command)[0]+" ")
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		script := call(t.Context(), nil, "completion", shell)
		if script.code != exitOK || !strings.Contains(script.stdout, "relay") {
			t.Errorf("%s: exit code %d, %d bytes", shell, script.code, len(script.stdout))
		}
	}
	for typed, offered := range map[string][]string{
		"":                        {"serve", "worker", "demo"},
		"keys create --scope ":    {"read", "write", "admin"},
		"simulate --misbehave ra": {"rate_limited"},
	} {
		words := strings.Split(typed, " ")
		mention(t, call(t.Context(), nil, append([]string{"__complete"}, words...)...).stdout, offered...)
	}
}

// Keys made, listed and revoked on the command line are those of the API.
func TestKeys(t *testing.T) {
	t.Parallel()
	around := newSurroundings(t)
	folder := t.TempDir()
	env := around.environment().with("RELAY_DATABASE_URL", "sqlite:"+filepath.Join(folder, "relay.db"))
	create := func(args ...string) string {
		t.Helper()
		made := call(t.Context(), env, append([]string{"keys", "create"}, args...)...)
		key := strings.TrimSuffix(made.stdout, "\n")
		if made.code != exitOK || !regexp.MustCompile(`^relay_[A-Za-z0-9_-]+$`).MatchString(key) {
			t.Fatalf("exit code %d, stdout %q, want a key alone\n%s", made.code, made.stdout, made.stderr)
		}
		if strings.Contains(made.stderr, key) {
			t.Error("the key is on stderr too")
		}
		return key
	}
	write := create("--tenant", "acme", "--name", "deploys", "--scope", "write")
	read := create("--tenant", "acme", "--name", "eyes", "--scope", "read")
	stranger := create("--tenant", "other", "--name", "all", "--scope", "read", "--scope", "admin")

	list := call(t.Context(), env, "keys", "list")
	mention(t, list.stdout, "TENANT", "acme", "deploys", "other", "never")
	ids := map[string]string{}
	for line := range strings.Lines(call(t.Context(), env, "keys", "list", "--json").stdout) {
		var key struct {
			ID, Name, Tenant string
			Scopes           []string
		}
		if err := json.Unmarshal([]byte(line), &key); err != nil || key.Tenant == "" || len(key.Scopes) == 0 {
			t.Errorf("%v in %s", err, line)
		}
		ids[key.Name] = key.ID
	}
	if len(ids) != 3 || strings.Contains(list.stdout, write) {
		t.Errorf("the keys are\n%s", list.stdout)
	}

	s := &system{surroundings: around, t: t, folder: folder, env: env, key: write}
	s.restart()
	if s.server.firstKey() != "" {
		t.Error("relay serve makes a key although there are some")
	}
	credential := s.credential(t, "token")
	body := client.NewCredential{Name: "no", APIToken: new("token")}
	made, err := s.server.client(read).CreateCredentialWithResponse(t.Context(), nil, body)
	want(t, http.StatusForbidden, err, made)
	seen, err := s.server.client(read).GetCredentialWithResponse(t.Context(), credential)
	want(t, http.StatusOK, err, seen)
	seen, err = s.server.client(stranger).GetCredentialWithResponse(t.Context(), credential)
	want(t, http.StatusNotFound, err, seen)
	s.server.Stop()

	if revoked := call(t.Context(), env, "keys", "revoke", ids["eyes"]); revoked.code != exitOK {
		t.Errorf("revoke: %+v", revoked)
	}
	again := call(t.Context(), env, "keys", "revoke", ids["eyes"])
	if again.code != exitError {
		t.Errorf("revoked twice: exit code %d, want 1", again.code)
	}
	mention(t, again.stderr, ids["eyes"], "relay keys list")
	s.restart()
	seen, err = s.server.client(read).GetCredentialWithResponse(t.Context(), credential)
	want(t, http.StatusUnauthorized, err, seen)
}

// The demo's output, its exit code, and that it leaves nothing behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	temporary := t.TempDir()
	r := spawn(t, t.TempDir(), environment{"TMPDIR": temporary}, "demo")
	if code := r.Wait(time.Minute); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	out := r.Stdout.String()
	mention(t, out, "operation.completed", `operation.failed ("This list is at the maximum number of items")`,
		"operation.expired (deadline)", "operation.unobservable (not_found)", "signature verified",
		"refused it twice", "updated in place", "checks hold")
	if strings.Contains(out, "\x1b") || strings.Contains(out, "MISSING") {
		t.Errorf("in a pipe the demo prints\n%s", out)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("the demo leaves %v behind (%v)", left, err)
	}
}

// relay healthcheck asks the process whose settings it is given.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t)
	s := startSeparate(t, newSurroundings(t), redis.URL, 1, "RELAY_METRICS_LISTEN", "127.0.0.1:0")
	address := func(r *relay) string {
		line, _ := r.Stderr.Find(`"msg":"metrics and health"`)
		var up struct{ Listen string }
		if err := json.Unmarshal([]byte(line), &up); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		return up.Listen
	}
	check := func(env environment) int { return call(t.Context(), env, "healthcheck").code }
	worker := environment{"RELAY_METRICS_LISTEN": address(s.workers[0])}
	ways := map[string]environment{
		"the API":           {"RELAY_LISTEN": s.server.address},
		"the API's metrics": {"RELAY_METRICS_LISTEN": address(s.server)},
		"the worker":        worker,
	}
	for name, env := range ways {
		eventually(t, startLimit, name+" is ready", func() bool { return check(env) == exitOK })
	}
	redis.Kill()
	for name, env := range ways {
		eventually(t, startLimit, name+" is not ready without Redis", func() bool { return check(env) == exitError })
	}
	mention(t, call(t.Context(), worker, "healthcheck").stderr, "redis")
	redis.Restart()
	for name, env := range ways {
		eventually(t, startLimit, name+" is ready again", func() bool { return check(env) == exitOK })
	}
	s.workers[0].Stop()
	mention(t, call(t.Context(), worker, "healthcheck").stderr, "does not answer")
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	r := spawn(t, t.TempDir(), nil, "simulate", "--listen", "127.0.0.1:0", "--pending-for", "0s", "--running-for", "0s", "--end", "failed")
	line, ok := r.Stderr.Wait(deadline(t, startLimit), "simulating on ", r.Ended)
	if !ok {
		t.Fatal("it does not start")
	}
	s := startEmbedded(t, newSurroundings(t), "RELAY_CLOUDFLARE_URL", strings.TrimPrefix(line, "simulating on ")+"/client/v4")
	w := s.end(t, s.watch(t, client.NewWatch{
		OperationID: newOperationID(), CredentialID: s.credential(t, "token"), DestinationIds: []string{s.webhook(t)},
	}).ID, startLimit)
	if w.Status != client.WatchStatusFailed || w.Operation.Error == nil {
		t.Errorf("the watch ended as %s", pretty(w))
	}
	r.Stop()
	if refused := call(t.Context(), nil, "simulate", "--misbehave", "nicely"); refused.code != exitUsage {
		t.Errorf("exit code %d for a misbehaviour that is none, want 2", refused.code)
	}
}
