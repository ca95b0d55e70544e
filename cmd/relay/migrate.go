package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newMigrate(getenv func(string) string) *cobra.Command {
	used := append(storeSettings(), logSettings()...)
	up := &cobra.Command{
		Use: "up", Short: "Apply the migrations that are pending", Args: cobra.NoArgs,
		Long: "Applies the migrations that are pending. Two at once do no harm: one waits.\n" +
			"Run it before a new version of relay api and relay worker starts.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(c, getenv, used)
			if err != nil {
				return err
			}
			store, err := openStore(c.Context(), cfg, newLogger(cfg, c.ErrOrStderr()))
			if err != nil {
				return failed(err)
			}
			defer store.Close()
			applied, err := store.Migrate(c.Context())
			for _, name := range applied {
				fmt.Fprintln(c.OutOrStdout(), "applied", name)
			}
			if err == nil && len(applied) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "nothing to apply: the schema is up to date")
			}
			return failed(err)
		},
	}
	status := &cobra.Command{
		Use: "status", Short: "Show the schema's version and what is pending", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(c, getenv, used)
			if err != nil {
				return err
			}
			store, err := openStore(c.Context(), cfg, newLogger(cfg, c.ErrOrStderr()))
			if err != nil {
				return failed(err)
			}
			defer store.Close()
			schema, err := store.MigrationStatus(c.Context())
			if err != nil {
				return failed(err)
			}
			fmt.Fprintf(c.OutOrStdout(), "database %d\nprogram  %d\n", schema.Current, schema.Latest)
			for _, name := range schema.Pending {
				fmt.Fprintln(c.OutOrStdout(), "pending ", name)
			}
			if schema.Newer {
				fmt.Fprintln(c.OutOrStdout(), "the database is newer than this program: run a newer relay")
			}
			return nil
		},
	}
	migrate := &cobra.Command{Use: "migrate", Short: "Apply or show the database's migrations", Args: cobra.NoArgs}
	for _, sub := range []*cobra.Command{up, status} {
		addSettings(sub, used)
		migrate.AddCommand(sub)
	}
	return migrate
}
