package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage/seal"
)

// The roles apart start on no schema but their own.
func TestSchemaHasToFit(t *testing.T) {
	t.Parallel()
	env := environment{
		"RELAY_DATABASE_URL": testenv.Postgres(t), "RELAY_REDIS_URL": testenv.Redis(t),
		"RELAY_ENCRYPTION_KEYS": seal.NewKey(), "RELAY_LISTEN": "127.0.0.1:0",
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

// By whichever name a second relay comes to the database, it is refused: two would send
// everything twice.
func TestDatabaseIsForOneRelayByAnyName(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	file, elsewhere := filepath.Join(s.folder, "relay.db"), t.TempDir()
	beside := func(name string) string { return filepath.Join(s.folder, name) }
	for name, way := range map[string]struct {
		link func(from, to string) error
		from string
		to   string // the link, if there is one
		path string // of the database, by this way
		says string
	}{
		"an absolute path":               {path: file, says: "another relay serve uses"},
		"a link to the file":             {os.Symlink, file, filepath.Join(elsewhere, "linked.db"), filepath.Join(elsewhere, "linked.db"), "another relay serve uses"},
		"a relative link to the file":    {os.Symlink, "relay.db", beside("relative.db"), beside("relative.db"), "another relay serve uses"},
		"a link to the folder":           {os.Symlink, s.folder, filepath.Join(elsewhere, "folder"), filepath.Join(elsewhere, "folder", "relay.db"), "another relay serve uses"},
		"a hard link, which SQLite bars": {os.Link, file, beside("hard.db"), beside("hard.db"), "hard links"},
	} {
		if way.link != nil {
			if err := way.link(way.from, way.to); err != nil {
				t.Fatal(err)
			}
		}
		second := spawn(t, s.folder, s.env.with("RELAY_DATABASE_URL", "sqlite:"+way.path), "serve")
		if code := second.Wait(startLimit); code != exitError {
			t.Errorf("%s: exit code %d, want 1", name, code)
		}
		mention(t, second.Stderr.String(), way.says)
		if way.to != "" {
			if err := os.Remove(way.to); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The first key is a line of the log's own form, whatever its level.
func TestFirstKeyIsPrinted(t *testing.T) {
	t.Parallel()
	for format, form := range map[string]string{
		"json": `\n\{[^\n]*"tenant":"default","scope":"admin","key":"relay_[A-Za-z0-9_-]{43}"\}\n`,
		"text": `\n\nThe API key of tenant "default"[^\n]*\n\n    relay_[A-Za-z0-9_-]{43}\n\n`,
	} {
		env := environment{
			"RELAY_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "relay.db"), "RELAY_LISTEN": "192.0.2.1:1",
			"RELAY_LOG_FORMAT": format, "RELAY_LOG_LEVEL": "error",
		}
		said := "\n" + call(t.Context(), env, "serve").stderr
		if found := regexp.MustCompile(form).FindAllString(said, -1); len(found) != 1 {
			t.Errorf("%s: want it once as %s in\n%s", format, form, said)
		}
	}
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
	foreign := spawn(t, s.folder, s.env.with("RELAY_ENCRYPTION_KEYS", seal.NewKey()), "serve")
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
	if made := call(t.Context(), env, "migrate", "up"); made.code != exitOK {
		t.Fatalf("migrate up: %+v", made)
	}
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"keys", "create", "--name", "n"}, env, unwritable, &stderr)
	if code != exitError || !strings.Contains(stderr.String(), "write the output") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

// leaving is a reader of the output that goes after so many writes.
type leaving struct{ writes int }

// Write implements io.Writer.
func (l *leaving) Write(p []byte) (int, error) {
	if l.writes--; l.writes < 0 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

// A reader that goes once it has seen enough, as head does, is told nothing; one that has seen
// nothing is told that it has not.
func TestReaderThatGoes(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	env := environment{"RELAY_DATABASE_URL": "sqlite:" + filepath.Join(folder, "relay.db")}
	if made := call(t.Context(), env, "migrate", "up"); made.code != exitOK {
		t.Fatalf("migrate up: %+v", made)
	}
	for range 2 {
		if made := call(t.Context(), env, "keys", "create", "--name", "n"); made.code != exitOK {
			t.Fatalf("keys create: %+v", made)
		}
	}
	for writes, want := range []string{"broken pipe", ""} {
		var stderr bytes.Buffer
		code := run(t.Context(), []string{"keys", "list"}, env, &leaving{writes}, &stderr)
		if code != exitError || !strings.Contains(stderr.String(), want) || (want == "") != (stderr.Len() == 0) {
			t.Errorf("after %d writes: exit code %d, %q", writes, code, stderr.String())
		}
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
			codes[i] <- run(ctx, []string{"serve"}, env, r.Stderr, r.Stderr)
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

// Only relay serve and relay migrate up make a database: the others, in the wrong
// folder, would print keys that open nothing. What stands in its place is told.
func TestNoOtherCommandMakesADatabase(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"keys", "create", "--name", "n"},
		{"keys", "list"},
		{"keys", "list", "--json"},
		{"keys", "revoke", "key_01jd8p5kzve6wbdq8rfg0m3c7x"},
		{"keys", "rotate-encryption"},
		{"migrate", "status"},
	} {
		for name, tt := range map[string]struct {
			place func(path string) error
			says  string // with %s for the folder
		}{
			"no file":           {func(string) error { return nil }, "there is no database %s/relay.db: "},
			"an empty file":     {func(path string) error { return os.WriteFile(path, nil, 0o600) }, "there is no database %s/relay.db: "},
			"a link to no file": {func(path string) error { return os.Symlink(path+"-elsewhere", path) }, "there is no database %s/relay.db: "},
			"a folder":          {func(path string) error { return os.Mkdir(path, 0o700) }, "%s/relay.db is a folder"},
			"a link to a folder": {
				func(path string) error { return os.Symlink(filepath.Dir(path), path) }, "%s/relay.db is a folder",
			},
			"a file without its keys": {
				func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) }, "key file %s/relay.key does not",
			},
			"a link to a file": {
				func(path string) error { return os.Symlink(os.Args[0], path) }, "and there is no key file %s/relay.key beside the link",
			},
		} {
			folder := t.TempDir()
			path := filepath.Join(folder, "relay.db")
			if err := tt.place(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadDir(folder)
			env := environment{"RELAY_DATABASE_URL": "sqlite:" + path}
			refused := call(t.Context(), env, args...)
			if refused.code != exitError || refused.stdout != "" {
				t.Errorf("%v on %s: exit code %d, want 1; stdout %q", args, name, refused.code, refused.stdout)
			}
			mention(t, refused.stderr, strings.ReplaceAll(tt.says, "%s", folder), "RELAY_")
			after, err := os.ReadDir(folder)
			if err != nil || len(after) != len(before) {
				t.Errorf("%v on %s leaves %v (%v)", args, name, after, err)
			}
		}
	}
}
