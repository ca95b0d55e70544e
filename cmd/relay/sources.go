package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"oprelay/jobs/source"
)

func newSources(env environment) *cobra.Command {
	return newGroup("sources", "The APIs whose operations can be watched, and their definitions",
		newSourcesList(env), newSourcesShow(env), newSourcesCheck(), newSourcesTry(env))
}

func newSourcesList(env environment) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Args: cobra.NoArgs,
		Short: "List the sources",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(c, env, sourceSettings)
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "NAME\tTITLE\tPARAMS\tDEFINED IN")
			for _, s := range cfg.sources.Sources() {
				names := make([]string, len(s.Params))
				for i, param := range s.Params {
					names[i] = param.Name
				}
				fmt.Fprintf(table, "%s\t%s: %s\t%s\t%s\n", s.Name, s.Upstream.Title, s.Title, cmp.Or(strings.Join(names, ","), "-"),
					cfg.sources.File(s.Upstream.Name))
			}
			return table.Flush()
		},
	}
	addSettings(c, sourceSettings)
	return c
}

func newSourcesShow(env environment) *cobra.Command {
	c := &cobra.Command{
		Use: "show NAME", Args: cobra.ExactArgs(1),
		Short:   "Print a source as YAML, to begin one of your own with",
		Example: "  relay sources show github.run > mine.yaml",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := load(c, env, sourceSettings)
			if err != nil {
				return err
			}
			if _, err := sourceNamed(cfg.sources, args[0]); err != nil {
				return err
			}
			text, err := cfg.sources.YAML(args[0])
			if err != nil {
				return failed(err)
			}
			fmt.Fprint(c.OutOrStdout(), string(text))
			return nil
		},
	}
	addSettings(c, sourceSettings)
	return c
}

// sourceNamed is a source; the error names those that there are.
func sourceNamed(set *source.Set, name string) (*source.Source, error) {
	if s := set.Source(name); s != nil {
		return s, nil
	}
	var names []string
	for _, s := range set.Sources() {
		names = append(names, s.Name)
	}
	return nil, fmt.Errorf("there is no source %q; there are %s", name, strings.Join(names, ", "))
}

func newSourcesCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE...", Args: cobra.MinimumNArgs(1),
		Short: "Check definitions, and run their examples",
		Long: "Checks files of definitions, or all in a folder, and runs their examples.\n" +
			"Every fault is a line on stderr, FILE:LINE: what is wrong and what to write\n" +
			"instead; exit 1 if there is any.",
		RunE: func(c *cobra.Command, args []string) error {
			set, err := source.Check(args)
			if err != nil {
				fmt.Fprintln(c.ErrOrStderr(), err)
				return failed(errors.New("the definitions are wrong"))
			}
			for _, u := range set.Upstreams() {
				for _, s := range u.Sources {
					fmt.Fprintf(c.OutOrStdout(), "%s: %s: %d rules, %d examples pass\n", set.File(u.Name), s.Name, len(s.Rules), len(s.Examples))
				}
			}
			if len(set.Upstreams()) == 0 {
				return failed(errors.New("no definition was found: a folder's end in .yaml or .yml"))
			}
			return nil
		},
	}
}
