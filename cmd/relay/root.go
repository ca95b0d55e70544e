package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// newRoot makes the command line. getenv is the only way to the environment.
func newRoot(getenv func(string) string) *cobra.Command {
	root := &cobra.Command{
		Use:   "relay",
		Short: "Watches asynchronous operations and tells webhooks and Slack how they ended",
		Long: `relay polls the operations that you register until they end, within the
budget of each credential, and tells webhooks and Slack channels how they ended.

See it work:      relay demo
Run it:           relay serve
Run it at scale:  relay migrate up, then any number of relay api and relay worker

Settings come from the environment or from flags: relay help environment`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newServe(getenv), newAPI(getenv), newWorker(getenv),
		newMigrate(getenv), newKeys(getenv),
		newSimulate(), newDemo(),
		newHealthcheck(getenv), newVersion(), newEnvironment(), newConfig(),
	)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w (see %s --help)", err, c.CommandPath())
	})
	return root
}

// newEnvironment is a help topic: the list of settings.
func newEnvironment() *cobra.Command {
	var b strings.Builder
	b.WriteString("Each setting is an environment variable, and a flag of the commands that use it\n" +
		"(RELAY_POLL_MIN is --poll-min). A flag wins over the environment.\n")
	for _, v := range settings() {
		fmt.Fprintf(&b, "\n%s\n    %s\n", v.name, v.usage)
		if v.value != "" {
			fmt.Fprintf(&b, "    default: %s\n", v.value)
		}
	}
	return &cobra.Command{Use: "environment", Short: "The settings, their defaults and what they do", Long: b.String()}
}

// newConfig prints what a script that checks a deployment needs to know.
func newConfig() *cobra.Command {
	return newGroup("config", "What can be configured", &cobra.Command{
		Use: "variables", Short: "Print the names of the settings, one on a line", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, v := range settings() {
				fmt.Fprintln(c.OutOrStdout(), v.name)
			}
			return nil
		},
	})
}

// newGroup makes a command that only holds others. Without one of them it shows
// its help; with a word that is none of them it fails, where cobra would show
// help and succeed.
func newGroup(use, short string, subcommands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q (see %s --help)", args[0], c.CommandPath())
			}
			return c.Help()
		},
	}
	c.AddCommand(subcommands...)
	return c
}

// isTerminal says whether a person is likely to read w as it is written.
func isTerminal(w io.Writer) bool {
	if checked, ok := w.(*checkedWriter); ok {
		w = checked.Writer
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
