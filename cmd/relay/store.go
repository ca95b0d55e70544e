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
	"time"

	"github.com/spf13/cobra"

	"oprelay/storage"
)

// opener opens the database of a configuration.
type opener func(context.Context, config, *slog.Logger) (*storage.Store, error)

// storeCommand gives c the settings of a command on the store alone, and runs
// work on the store that open opens.
func storeCommand(
	c *cobra.Command, env environment, open opener, work func(context.Context, *storage.Store, []string) error,
) *cobra.Command {
	used := func(cfg *config) []setting { return append(storeSettings(cfg), logSettings(cfg)...) }
	addSettings(c, used)
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, err := load(c, env, used)
		if err != nil {
			return err
		}
		store, err := open(c.Context(), cfg, newLogger(cfg, c.ErrOrStderr()))
		if err != nil {
			return failed(err)
		}
		return failed(errors.Join(work(c.Context(), store, args), store.Close()))
	}
	return c
}

// existing refuses a database that is not there: a command that is run in the wrong
// folder must not make another one, whose API keys no relay knows.
func existing(open opener) opener {
	return func(ctx context.Context, cfg config, log *slog.Logger) (*storage.Store, error) {
		path, ok := strings.CutPrefix(cfg.databaseURL, "sqlite:")
		if !ok {
			return open(ctx, cfg, log)
		}
		switch file, err := os.Stat(path); {
		case errors.Is(err, fs.ErrNotExist), err == nil && file.Size() == 0 && !file.IsDir():
			return nil, noDatabase(path)
		case err != nil:
			return nil, fmt.Errorf("find the database: %w", err)
		}
		return open(ctx, cfg, log)
	}
}

func noDatabase(path string) error {
	return fmt.Errorf("there is no database %s: run this in the folder of relay serve, or set RELAY_DATABASE_URL as it has it "+
		"(relay serve makes a new one, and so does relay migrate up)", absolute(path))
}

// absolute is the path in a form that also works from another folder.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}

// openStore opens the database as it is, without migrating it.
func openStore(ctx context.Context, cfg config, log *slog.Logger) (*storage.Store, error) {
	if path, ok := strings.CutPrefix(cfg.databaseURL, "sqlite:"); ok {
		if file, err := os.Stat(path); err == nil && file.IsDir() {
			return nil, fmt.Errorf("the database %s is a folder: name a file in it with RELAY_DATABASE_URL", absolute(path))
		}
	}
	keys, err := openKeyring(cfg, log)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	return storage.Open(ctx, storage.Config{
		URL: cfg.databaseURL, Keys: keys, MaxConns: cfg.databaseMaxConns,
		Now: wallClock(), Elapsed: func() time.Duration { return time.Since(began) },
	})
}

// openMigrated opens the database and refuses one whose schema is not this program's,
// or lacks a part of it. SQLite is migrated first: it belongs to this process alone.
func openMigrated(ctx context.Context, cfg config, log *slog.Logger) (*storage.Store, error) {
	store, err := openStore(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if err := checkSchema(ctx, store, log); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}

func checkSchema(ctx context.Context, store *storage.Store, log *slog.Logger) error {
	schema, err := store.MigrationStatus(ctx)
	switch {
	case err != nil:
		return err
	case schema.Newer:
		return newerSchema(schema)
	case len(schema.Pending) == 0:
		return store.CheckSchema(ctx)
	case store.Backend() != "sqlite":
		return fmt.Errorf("%d migrations are pending (%s): run relay migrate up first", len(schema.Pending), strings.Join(schema.Pending, ", "))
	}
	applied, err := store.Migrate(ctx)
	if err != nil {
		return err
	}
	if schema.Current > 0 {
		log.Info("the database was migrated", "applied", applied)
	}
	return store.CheckSchema(ctx)
}

func newerSchema(schema storage.Migrations) error {
	return fmt.Errorf("the database's schema (version %d) is newer than this program knows (%d): run a newer relay",
		schema.Current, schema.Latest)
}
