package main

import (
	"cmp"
	"fmt"
	"go/doc/comment"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Set by the linker: see the Makefile.
var (
	version = "dev"
	commit  = "unknown" //nolint:gochecknoglobals // the linker can set nothing else
)

// newRoot makes the command line. env is all that it knows of the environment.
func newRoot(env environment, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "relay",
		Short: "Watches asynchronous operations and tells webhooks and Slack how they ended",
		Long: `relay polls the operations that you register until they end, within the
budget of each credential, and tells webhooks and Slack channels how they ended.

  See it work:      relay demo
  Run it:           relay serve
  Run it at scale:  relay migrate up, then many relay api and relay worker
  Use it:           relay watch, relay wait, relay listen

Settings come from the environment or from flags: relay help environment`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newServe(env), newAPI(env), newWorker(env),
		newMigrate(env), newKeys(env),
		newWatch(env), newWait(env), newListen(env),
		newSources(env), newSimulate(env), newDemo(),
		newHealthcheck(env), newVersion(), newConfig(),
	)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w (see %s --help)", err, c.CommandPath())
	})
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.RunE = help
		case "completion":
			c.Args, c.RunE = cobra.ArbitraryArgs, showGroup
		}
	}
	root.SetVersionTemplate(versionText())
	width, _ := terminalSize(stdout)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", width)))
	fitHelp(root, width)
	root.AddCommand(newEnvironment(width))
	return root
}

// fitHelp wraps what the commands say of themselves.
func fitHelp(c *cobra.Command, width int) {
	c.Long = fill(cmp.Or(c.Long, c.Short), "", width)
	indent := strings.Repeat(" ", 3+c.NamePadding()) // in the list of commands, behind the name
	c.Short = strings.TrimSpace(fill(c.Short, indent, width))
	for _, sub := range c.Commands() {
		fitHelp(sub, width)
	}
}

// fill breaks paragraphs into lines that fit the width with the prefix before each.
// Lines that are indented stay as they are, as in a Go comment.
func fill(text, prefix string, width int) string {
	printer := comment.Printer{TextPrefix: prefix, TextCodePrefix: prefix + "  ", TextWidth: width - len(prefix)}
	return strings.TrimRight(string(printer.Text(new(comment.Parser).Parse(text))), "\n")
}

func versionText() string {
	return fmt.Sprintf("relay %s\ncommit %s\n%s %s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print version, commit and Go version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprint(c.OutOrStdout(), versionText()) },
	}
}

// help shows the help of the command that args name. With words that are none it
// fails, where cobra would show help and succeed.
func help(c *cobra.Command, args []string) error {
	named, rest, err := c.Root().Find(args)
	if err != nil {
		return fmt.Errorf("%w (see relay --help)", err)
	}
	if len(rest) > 0 {
		return unknownCommand(named, rest[0])
	}
	named.InitDefaultHelpFlag()
	return named.Help()
}

func unknownCommand(c *cobra.Command, word string) error {
	return fmt.Errorf("unknown command %q for %q (see %s --help)", word, c.CommandPath(), c.CommandPath())
}

// newEnvironment is a help topic: the list of settings.
func newEnvironment(width int) *cobra.Command {
	var b strings.Builder
	b.WriteString(fill("Each setting is an environment variable, and a flag of the commands that use it "+
		"(RELAY_POLL_MIN is --poll-min). A flag wins over the environment.", "", width) + "\n")
	for _, v := range settings(new(config)) {
		fmt.Fprintf(&b, "\n%s\n%s\n", v.name, fill(v.usage, "    ", width))
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
			for _, v := range settings(new(config)) {
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
		Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: showGroup,
	}
	c.AddCommand(subcommands...)
	return c
}

func showGroup(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(c, args[0])
	}
	return c.Help()
}

// isTerminal says whether a person is likely to read w as it is written.
func isTerminal(w io.Writer) bool {
	return term.IsTerminal(fileDescriptor(w))
}

// terminalSize is 80 by 24 where w is no terminal or does not know its size.
func terminalSize(w io.Writer) (width, height int) {
	width, height, _ = term.GetSize(fileDescriptor(w))
	return cmp.Or(width, 80), cmp.Or(height, 24)
}

// fileDescriptor is -1 if w is no file.
func fileDescriptor(w io.Writer) int {
	if checked, ok := w.(*checkedWriter); ok {
		w = checked.Writer
	}
	if f, ok := w.(*os.File); ok {
		return int(f.Fd())
	}
	return -1
}
