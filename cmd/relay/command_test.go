package main

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"version", "--version"} {
		r := spawn(t, t.TempDir(), nil, way)
		if code := r.Wait(startLimit); code != exitOK {
			t.Errorf("relay %s: exit code %d, want 0", way, code)
		}
		mention(t, r.Stdout.String(), "relay "+testVersion+"\n", "commit "+testCommit+"\n", runtime.Version())
	}
}

// Every command explains itself in lines that fit, and the root names every command.
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
		"sources":                {"list", "show", "check", "try"},
		"sources list":           {"RELAY_SOURCES"},
		"sources show":           {"NAME"},
		"sources check":          {"FILE:LINE"},
		"sources try":            {"RELAY_TRY_TOKEN", "--token-file", "--param", "RELAY_UPSTREAM_URLS"},
		"watch":                  {"OPERATION_ID", "--account", "--credential", "--destination", "--wait", "RELAY_API_KEY", "3 expired"},
		"wait":                   {"WATCH_ID", "--timeout", "--json", "RELAY_URL", "4 unobservable", "6 if"},
		"listen":                 {"--since", "--type", "--forward-to", "--receive", "--secret", "RELAY_EGRESS_ALLOW"},
		"simulate":               {"--source", "status_missing", "--misbehave", "RELAY_CLOUDFLARE_URL", "not_found"},
		"demo":                   {"--keep", "Exit 0 only if"},
		"healthcheck":            {"RELAY_METRICS_LISTEN"},
		"environment":            strings.Fields(call(t.Context(), nil, "config", "variables").stdout),
	} {
		help := call(t.Context(), nil, append(strings.Fields(command), "--help")...)
		if help.code != exitOK || help.stderr != "" {
			t.Errorf("relay %s --help: exit code %d, stderr %q", command, help.code, help.stderr)
		}
		mention(t, strings.Join(strings.Fields(help.stdout), " "), says...)
		mention(t, root.stdout, strings.Fields(command)[0]+" ")
		checkWidth(t, help.stdout, 80)
		for _, width := range []int{80, 100, 200} {
			terminal := newTerminal(t, width, 24)
			run(t.Context(), append(strings.Fields(command), "--help"), nil, terminal.tty, io.Discard)
			checkWidth(t, terminal.all(), width)
			if command == "serve" && (terminal.all() == help.stdout) != (width == 80) {
				t.Errorf("a terminal of %d columns is not used", width)
			}
		}
	}
}

// checkWidth fails the test for each line that is too long for the width.
func checkWidth(t *testing.T, text string, width int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width {
			t.Errorf("%d columns are too few for the %d of %q", width, n, line)
		}
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
	if made := call(t.Context(), env, "migrate", "up"); made.code != exitOK {
		t.Fatalf("migrate up: %+v", made)
	}
	write := create("--tenant", "acme", "--name", "deploys", "--scope", "write")
	read := create("--tenant", "acme", "--name", "eyes", "--scope", "read")
	stranger := create("--tenant", "other", "--name", "all", "--scope", "read", "--scope", "admin")
	create("--tenant", "other", "--name", "spare", "--scope", "read") // last used at null

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
	if len(ids) != 4 || strings.Contains(list.stdout, write) {
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
	s.checkListedAsJSON(t, stranger, "other")
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

// checkListedAsJSON holds relay keys list --json against the API's list, for the keys
// of the tenant whose key is given: they differ in the tenant alone.
func (s *system) checkListedAsJSON(t *testing.T, key, tenant string) {
	t.Helper()
	eventually(t, startLimit, "keys list --json is what the API shows", func() bool { // once all have noticed the keys' use
		answer, err := s.server.client(key).ListKeysWithResponse(t.Context(), nil)
		want(t, http.StatusOK, err, answer)
		var shown struct{ Data []map[string]any }
		if err := json.Unmarshal(answer.Body, &shown); err != nil {
			t.Fatal(err)
		}
		var listed []map[string]any
		for line := range strings.Lines(call(t.Context(), s.env, "keys", "list", "--json").stdout) {
			var row map[string]any
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			if row["tenant"] == tenant {
				delete(row, "tenant")
				listed = append(listed, row)
			}
		}
		slices.Reverse(listed) // the API shows the newest first
		return len(listed) == 2 && reflect.DeepEqual(listed, shown.Data)
	})
}

// relay healthcheck asks the process whose settings it is given. Without Redis it is well, for
// work goes on; without its database it is not.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	redis, database := testenv.StartRedis(t), testenv.StartProxy(t, testenv.Postgres(t))
	s := startSeparate(t, newSurroundings(t), redis.URL, 1, "RELAY_METRICS_LISTEN", "127.0.0.1:0", "RELAY_DATABASE_URL", database.URL)
	check := func(env environment) int { return call(t.Context(), env, "healthcheck").code }
	worker := environment{"RELAY_METRICS_LISTEN": s.workers[0].metricsAddress(t)}
	ways := map[string]environment{
		"the API":           {"RELAY_LISTEN": s.server.address},
		"the API's metrics": {"RELAY_METRICS_LISTEN": s.server.metricsAddress(t)},
		"the worker":        worker,
	}
	for name, env := range ways {
		eventually(t, startLimit, name+" is ready", func() bool { return check(env) == exitOK })
	}
	redis.Kill()
	for _, address := range []string{s.server.address, s.server.metricsAddress(t), s.workers[0].metricsAddress(t)} {
		eventually(t, startLimit, address+" is degraded without Redis", func() bool {
			status, said := page(t, "http://"+address+"/readyz")
			return status == http.StatusOK && strings.Contains(said, "degraded")
		})
	}
	for name, env := range ways {
		if code := check(env); code != exitOK {
			t.Errorf("%s: exit code %d without Redis", name, code)
		}
	}
	database.Refuse()
	for name, env := range ways {
		eventually(t, startLimit, name+" is not ready without its database", func() bool { return check(env) == exitError })
	}
	mention(t, call(t.Context(), worker, "healthcheck").stderr, "database")
	database.Restore()
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
