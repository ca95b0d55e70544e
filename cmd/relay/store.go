package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	c *cobra.Command, getenv func(string) string, open opener, work func(context.Context, *storage.Store, []string) error,
) *cobra.Command {
	used := append(storeSettings(), logSettings()...)
	addSettings(c, used)
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, err := load(c, getenv, used)
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

// openStore opens the database as it is, without migrating it.
func openStore(ctx context.Context, cfg config, log *slog.Logger) (*storage.Store, error) {
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

// openMigrated opens the database and refuses one whose schema is not this
// program's. A SQLite database belongs to this process alone, so it is migrated.
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
		return nil
	case store.Backend() != "sqlite":
		return fmt.Errorf("%d migrations are pending (%s): run relay migrate up first", len(schema.Pending), strings.Join(schema.Pending, ", "))
	}
	applied, err := store.Migrate(ctx)
	if err == nil && schema.Current > 0 {
		log.Info("the database was migrated", "applied", applied)
	}
	return err
}

func newerSchema(schema storage.Migrations) error {
	return fmt.Errorf("the database's schema (version %d) is newer than this program knows (%d): run a newer relay",
		schema.Current, schema.Latest)
}
