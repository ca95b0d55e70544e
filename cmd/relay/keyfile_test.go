package main

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"oprelay/storage/seal"
)

func TestNewEncryption(t *testing.T) {
	t.Parallel()
	made := call(t.Context(), nil, "keys", "new-encryption")
	if _, err := seal.ParseKeyring(strings.TrimSpace(made.stdout)); err != nil || made.code != exitOK || made.stderr != "" {
		t.Errorf("%v: %+v", err, made)
	}
	file := filepath.Join(t.TempDir(), keyFile)
	add := func() answer { return call(t.Context(), nil, "keys", "new-encryption", "--file", file) }
	if missing := add(); missing.code != exitError {
		t.Errorf("without a file: %+v", missing)
	}
	if err := os.WriteFile(file, []byte("k1:no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if faulty := add(); faulty.code != exitError || readKeys(t, file) != "k1:no" {
		t.Errorf("with a file that is none: %+v", faulty)
	}
	if err := os.WriteFile(file, []byte(made.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	added := add()
	keys := readKeys(t, file)
	if !strings.HasSuffix(keys, ","+strings.TrimSpace(made.stdout)) || added.code != exitOK {
		t.Errorf("the file holds %s after %+v", keys, added)
	}
	mention(t, added.stdout, strings.Split(keys, ":")[0])
	if strings.Contains(added.stdout, regexp.MustCompile(`:([^,]*),`).FindStringSubmatch(keys)[1]) {
		t.Error("the new key is shown")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("beside the file is %v", left)
	}
}

// newKeyFile makes a key file and returns its path.
func newKeyFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), keyFile)
	if err := os.WriteFile(file, []byte(seal.NewKey()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Keys that are added at the same time, by the file's own name and through a link,
// are all kept, and the link stays one.
func TestNewEncryptionAtTheSameTime(t *testing.T) {
	t.Parallel()
	const n = 20
	file := newKeyFile(t)
	first := readKeys(t, file)
	link := filepath.Join(t.TempDir(), "link.key")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	var added sync.WaitGroup
	for i := range n {
		path := []string{file, link}[i%2]
		added.Go(func() {
			if made := call(t.Context(), nil, "keys", "new-encryption", "--file", path); made.code != exitOK {
				t.Errorf("%+v", made)
			}
		})
	}
	added.Wait()
	keys := readKeys(t, file)
	if _, err := seal.ParseKeyring(keys); err != nil || strings.Count(keys, ",") != n || !strings.HasSuffix(keys, ","+first) {
		t.Errorf("%d keys of %d are there (%v)", strings.Count(keys, ",")+1, n+1, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is a %v (%v)", info.Mode(), err)
	}
	for _, path := range []string{file, link} {
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
			t.Errorf("beside %s is %v (%v)", path, left, err)
		}
	}
}

// A start says that others can read the key file, and what to do.
func TestKeyFileOpenToOthers(t *testing.T) {
	t.Parallel()
	for mode, warned := range map[fs.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o620: true, 0o666: true} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			file := newKeyFile(t)
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			cfg := config{databaseURL: "sqlite:" + filepath.Join(filepath.Dir(file), "relay.db")}
			if _, err := openKeyring(cfg, slog.New(slog.NewTextHandler(&said, nil))); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(said.String(), "chmod 600") != warned {
				t.Errorf("it says %q", said.String())
			}
			if warned {
				mention(t, said.String(), "level=WARN", file, mode.String())
			}
		})
	}
}
