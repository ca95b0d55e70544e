package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"oprelay/storage"
)

func newMigrate(env environment) *cobra.Command {
	return newGroup("migrate", "Apply or show the database's migrations", newMigrateUp(env), newMigrateStatus(env))
}

func newMigrateUp(env environment) *cobra.Command {
	c := &cobra.Command{
		Use: "up", Short: "Apply the migrations that are pending", Args: cobra.NoArgs,
		Long: "Applies the migrations that are pending. Two at once do no harm: one waits.\n" +
			"Run it before a new version of relay api and relay worker starts.",
	}
	return storeCommand(c, env, openStore, func(ctx context.Context, store *storage.Store, _ []string) error {
		schema, err := store.MigrationStatus(ctx)
		if err == nil && schema.Newer {
			err = newerSchema(schema)
		}
		if err != nil {
			return err
		}
		applied, err := store.Migrate(ctx)
		for _, name := range applied {
			fmt.Fprintln(c.OutOrStdout(), "applied", name)
		}
		if err == nil && len(applied) == 0 {
			fmt.Fprintln(c.OutOrStdout(), "nothing to apply: the schema is up to date")
		}
		return err
	})
}

func newMigrateStatus(env environment) *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show the schema's version and what is pending", Args: cobra.NoArgs}
	return storeCommand(c, env, existing(openStore), func(ctx context.Context, store *storage.Store, _ []string) error {
		schema, err := store.MigrationStatus(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "database %d\nprogram  %d\n", schema.Current, schema.Latest)
		for _, name := range schema.Pending {
			fmt.Fprintln(c.OutOrStdout(), "pending ", name)
		}
		if schema.Newer {
			fmt.Fprintln(c.OutOrStdout(), "the database is newer than this program: run a newer relay")
		}
		return nil
	})
}
