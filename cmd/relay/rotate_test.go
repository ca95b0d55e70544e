package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// restartAll ends every process and starts it anew with the settings.
func (s *system) restartAll(settings ...string) {
	s.t.Helper()
	s.env = s.env.with(settings...)
	workers := s.workers
	for _, r := range append(workers, s.server) {
		r.Stop()
	}
	if s.workers = nil; len(workers) == 0 {
		s.restart()
		return
	}
	s.server = startRelay(s.t, s.folder, s.env, "api")
	s.api = s.server.client(s.key)
	for range workers {
		s.addWorker()
	}
}

// The encryption key is changed under traffic; then the new one alone opens
// everything, and all that was promised under the old one arrives.
func TestRotateEncryption(t *testing.T) {
	t.Parallel()
	t.Run("a key file, embedded", func(t *testing.T) {
		t.Parallel()
		s := startEmbedded(t, newSurroundings(t))
		file := filepath.Join(s.folder, keyFile)
		database := s.env.with("RELAY_DATABASE_URL", "sqlite:"+filepath.Join(s.folder, "relay.db"))
		old := readKeys(t, file)
		rotateUnderTraffic(t, s, database, func() (before string) {
			if made := call(t.Context(), nil, "keys", "new-encryption", "--file", file); made.code != exitOK {
				t.Fatalf("new-encryption: %+v", made)
			}
			s.restartAll()
			return old
		}, func() {
			fresh, _, _ := strings.Cut(readKeys(t, file), ",")
			if err := os.WriteFile(file, []byte(fresh+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			s.restartAll()
		})
	})
	t.Run("settings, several processes", func(t *testing.T) {
		t.Parallel()
		s := startSeparate(t, newSurroundings(t), testenv.Redis(t), 2)
		fresh := strings.TrimSpace(call(t.Context(), nil, "keys", "new-encryption").stdout)
		old := s.env["RELAY_ENCRYPTION_KEYS"]
		rotateUnderTraffic(t, s, s.env.with("RELAY_ENCRYPTION_KEYS", fresh+","+old), func() (before string) {
			s.restartAll("RELAY_ENCRYPTION_KEYS", fresh+","+old)
			return old
		}, func() { s.restartAll("RELAY_ENCRYPTION_KEYS", fresh) })
	})
}

func readKeys(t *testing.T, file string) string {
	t.Helper()
	keys, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(keys))
}

// rotateUnderTraffic goes through the three steps: add tells the old key.
func rotateUnderTraffic(t *testing.T, s *system, env environment, add func() (old string), drop func()) {
	t.Helper()
	const rounds, each = 12, 5
	var ids []string
	register := func() {
		some := s.operations(each, simulator.Plan{RunningFor: 2 * time.Second})
		s.watches(t, s.credential(t, newOperationID()), s.webhook(t), some)
		ids = append(ids, some...)
	}
	for range rounds / 3 {
		register()
	}
	old, _, _ := strings.Cut(add(), ":")
	rotated := make(chan answer)
	go func() { rotated <- call(t.Context(), env, "keys", "rotate-encryption") }()
	for range rounds / 3 {
		register()
	}
	done := <-rotated
	if done.code != exitOK {
		t.Fatalf("rotate-encryption: %+v", done)
	}
	mention(t, done.stdout, "sealed under "+old+": nothing", "take it out of the list")
	drop()
	for range rounds / 3 {
		register()
	}
	s.allAccepted(t, len(ids), time.Minute)
	s.ended(t, ids)
}

// A list that lacks a key, or has another one of its name, is refused at a start
// by the names of the key and of what it sealed; rotate-encryption names all of
// it, and can give it up.
func TestLostEncryptionKey(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t), "RELAY_ENCRYPTION_KEYS", seal.NewKey())
	credential, destination := s.credential(t, "token"), s.webhook(t)
	s.server.Stop()
	id, value, _ := strings.Cut(s.env["RELAY_ENCRYPTION_KEYS"], ":")
	_, other, _ := strings.Cut(seal.NewKey(), ":")
	env := s.env.with("RELAY_DATABASE_URL", "sqlite:"+filepath.Join(s.folder, "relay.db"))
	for name, keys := range map[string]string{"lost": seal.NewKey(), "wrong": id + ":" + other} {
		env := env.with("RELAY_ENCRYPTION_KEYS", keys)
		for command, refused := range map[string]answer{
			"serve":  call(t.Context(), env, "serve"),
			"rotate": call(t.Context(), env, "keys", "rotate-encryption"),
		} {
			if refused.code != exitError {
				t.Errorf("%s with a %s key: exit code %d, want 1", command, name, refused.code)
			}
			printed := refused.stdout + refused.stderr
			mention(t, printed, `"`+id+`"`, "credentials "+credential, "destinations "+destination)
			if strings.Contains(printed, value) || strings.Contains(printed, other) {
				t.Errorf("%s shows a key:\n%s", command, printed)
			}
		}
	}
	s.env = s.env.with("RELAY_ENCRYPTION_KEYS", seal.NewKey())
	env["RELAY_ENCRYPTION_KEYS"] = s.env["RELAY_ENCRYPTION_KEYS"]
	forgot := call(t.Context(), env, "keys", "rotate-encryption", "--forget-unopened")
	if forgot.code != exitOK {
		t.Fatalf("--forget-unopened: %+v", forgot)
	}
	mention(t, forgot.stdout, "the secrets of 2 rows")
	s.restart()
	for path, err := range map[string]error{
		"credential":  second(s.api.DeleteCredentialWithResponse(t.Context(), credential)),
		"destination": second(s.api.DeleteDestinationWithResponse(t.Context(), destination, nil)),
	} {
		if err != nil {
			t.Errorf("delete the %s: %v", path, err)
		}
	}
	operation := s.add(simulator.Plan{})
	s.watches(t, s.credential(t, "token"), s.webhook(t), []string{operation})
	s.allAccepted(t, 1, startLimit)
}

// second is the error of a call whose answer is no news.
func second[R response](answer R, err error) error {
	if err == nil && answer.StatusCode() >= 300 {
		return errors.New("refused")
	}
	return err
}

// What a rotation says in the end, and whether that is a success.
func TestRotationVerdict(t *testing.T) {
	t.Parallel()
	lost := storage.UnopenedRow{SealedRow: storage.SealedRow{Table: "credentials", ID: "credential_1"}, Err: errors.New("open: lost")}
	many := append(unopened("credentials", 1000, "open: key a"), unopened("destinations", 10, "open: key b")...)
	for name, c := range map[string]struct {
		passes []storage.ResealPass
		says   []string
		not    string
		fails  string
	}{
		"done": {
			[]storage.ResealPass{
				{Key: "new", Rows: 2, Resealed: 2},
				{Key: "new", Rows: 2, PerKey: map[string]int{"new": 2}, Unused: []string{"old"}},
			},
			[]string{"sealed anew under new: 2 rows", "sealed under new: 2 rows", "sealed under old: nothing; once every process"},
			"erased", "",
		},
		"somebody seals under the old key": {
			[]storage.ResealPass{{Key: "new", Resealed: 2}, {Key: "new", Resealed: 1}, {Key: "new", Unused: []string{"old"}}},
			[]string{"sealed under old: nothing\n"},
			"take it out", "a process still seals under another key than new (1 row",
		},
		"a lost key": {
			[]storage.ResealPass{{Key: "new", Unopened: []storage.UnopenedRow{lost}}, {
				Key: "new", Unopened: []storage.UnopenedRow{lost}, PerKey: map[string]int{"new": 1, "lost": 1, "": 2},
			}},
			[]string{"credentials credential_1: open: lost\n", "sealed under lost: 1 row\n", "sealed under no key of the relay's: 2 rows"},
			"nothing", "no key of the list opens 1 row",
		},
		"many rows of two lost keys": {
			[]storage.ResealPass{{Key: "new", Unopened: many}, {Key: "new", Unopened: many}},
			[]string{
				"credentials 0, credentials 1, credentials 2 and 997 more: open: key a\n",
				"destinations 0, destinations 1, destinations 2 and 7 more: open: key b\n",
			},
			"credentials 3", "no key of the list opens 1010 rows",
		},
		"no end": {
			[]storage.ResealPass{{Key: "new", Overtaken: 1, Unused: []string{"old"}}},
			nil, "take it out", "run this again",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			r := rotation{out: &out, named: map[storage.SealedRow]bool{}}
			for n, pass := range c.passes {
				r.note(n, pass)
			}
			last := c.passes[len(c.passes)-1]
			r.summary(last)
			mention(t, out.String(), c.says...)
			if c.not != "" && strings.Contains(out.String(), c.not) || strings.Count(out.String(), "open: lost")+strings.Count(out.String(), "open: key a") > 1 {
				t.Errorf("it prints\n%s", out.String())
			}
			switch err := r.verdict(last); {
			case c.fails == "" && err != nil:
				t.Error(err)
			case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
				t.Errorf("%v, want %s", err, c.fails)
			}
		})
	}
}

// unopened are n rows of a table that are not opened for one reason.
func unopened(table string, n int, reason string) []storage.UnopenedRow {
	rows := make([]storage.UnopenedRow, n)
	for i := range rows {
		rows[i] = storage.UnopenedRow{SealedRow: storage.SealedRow{Table: table, ID: strconv.Itoa(i)}, Err: errors.New(reason)}
	}
	return rows
}
