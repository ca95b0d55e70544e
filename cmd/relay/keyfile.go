package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"oprelay/storage/seal"

	"github.com/gofrs/flock"
)

// keyFile is where the encryption keys are when no setting gives them.
const keyFile = "relay.key"

// lockPause is how long one waits before trying again to add a key.
const lockPause = 10 * time.Millisecond

// openKeyring reads the encryption keys of the configuration or, for SQLite, of
// the key file beside the database, which is made where there is none.
func openKeyring(cfg config, log *slog.Logger) (*seal.Keyring, error) {
	if cfg.encryptionKeys != "" {
		return seal.ParseKeyring(cfg.encryptionKeys)
	}
	path := filepath.Join(filepath.Dir(strings.TrimPrefix(cfg.databaseURL, "sqlite:")), keyFile)
	spec, err := readKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKeyFile(path, cfg, log)
	}
	if err != nil {
		return nil, err
	}
	warnOfReaders(path, log)
	return seal.ParseKeyring(spec)
}

// warnOfReaders does not refuse: a secret that a cluster mounts may have to be
// readable by a group.
func warnOfReaders(path string, log *slog.Logger) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("the key file is open to others than its owner, who can open every secret with it: chmod 600 it",
			"path", path, "mode", info.Mode().Perm().String())
	}
}

// readKeyFile reads a list of keys that ParseKeyring understands.
func readKeyFile(path string) (spec string, err error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", fmt.Errorf("read the encryption keys: %w", err)
	}
	spec = strings.TrimSpace(string(text))
	if _, err := seal.ParseKeyring(spec); err != nil {
		return "", fmt.Errorf("the key file %s: %w", path, err)
	}
	return spec, nil
}

// makeKeyFile refuses to make new keys for a database that exists: its secrets
// could be opened by the lost keys only.
func makeKeyFile(path string, cfg config, log *slog.Logger) (*seal.Keyring, error) {
	database := strings.TrimPrefix(cfg.databaseURL, "sqlite:")
	if _, err := os.Stat(database); err == nil {
		return nil, noKeyFile(database, path)
	}
	spec := seal.NewKey()
	// Linked, so that a key that another process has made meanwhile is kept.
	if err := writeAside(path, spec, func(temporary *os.File) error { return os.Link(temporary.Name(), path) }); err != nil {
		return nil, fmt.Errorf("make the key file: %w", err)
	}
	log.Info("made a key file; back it up apart from the database: without it the stored secrets are lost", "path", path)
	return seal.ParseKeyring(spec)
}

func noKeyFile(database, path string) error {
	if info, err := os.Lstat(database); err == nil && info.Mode().Type() == fs.ModeSymlink {
		target, err := filepath.EvalSymlinks(database)
		if err != nil {
			return fmt.Errorf("follow the link to the database: %w", err)
		}
		return fmt.Errorf("the database is a link to %s, and there is no key file %s beside the link: "+
			"name the database itself with RELAY_DATABASE_URL, or link its key file there too", absolute(target), absolute(path))
	}
	return fmt.Errorf("the database exists but its key file %s does not: restore it, or set RELAY_ENCRYPTION_KEYS", absolute(path))
}

// addToKeyFile puts a new key before those of the file, and returns its id.
// Others that do so at the same time wait for each other, until ctx ends.
func addToKeyFile(ctx context.Context, path string) (id string, err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", fmt.Errorf("read the encryption keys: %w", err)
	}
	// The folder is locked: it stays where the file is replaced, and a lock file
	// that root leaves behind would keep others out.
	lock := flock.New(filepath.Dir(path), flock.SetFlag(os.O_RDONLY))
	if _, err := lock.TryLockContext(ctx, lockPause); err != nil {
		return "", fmt.Errorf("lock the folder of the key file: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	spec, err := readKeyFile(path)
	if err != nil {
		return "", err
	}
	fresh := seal.NewKey()
	err = writeAside(path, fresh+","+spec, func(temporary *os.File) error { return replaceKeyFile(path, temporary) })
	if err != nil {
		return "", fmt.Errorf("add a key to the key file: %w", err)
	}
	id, _, _ = strings.Cut(fresh, ":")
	return id, nil
}

// replaceKeyFile leaves the file to its owner: whoever runs the relay is to read
// it, also if root adds the key.
func replaceKeyFile(path string, temporary *os.File) error {
	before, err := os.Stat(path)
	if err != nil {
		return err
	}
	if owner, ok := before.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := os.Chown(temporary.Name(), int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return os.Rename(temporary.Name(), path)
}

// writeAside writes the keys to a file beside the path, which place then puts
// there: a crash leaves no half a key, and a power cut no secrets without theirs.
func writeAside(path, spec string, place func(temporary *os.File) error) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+keyFile+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	_, err = temporary.WriteString(spec + "\n")
	if err := errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	if err := place(temporary); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
