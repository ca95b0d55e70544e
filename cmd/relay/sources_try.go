package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"oprelay/jobs/source"
)

// tryToken is where `relay sources try` finds a credential without --token-file.
const tryToken = "RELAY_TRY_TOKEN" //nolint:gosec // the name of a variable

// trial is what the command line says of one poll.
type trial struct {
	operationID string
	params      map[string]string
	tokenFile   string
}

func newSourcesTry(env environment) *cobra.Command {
	var of trial
	c := &cobra.Command{
		Use: "try NAME --operation-id ID", Args: cobra.ExactArgs(1),
		Short: "Ask once about an operation, and show how the answer is read",
		Long: "Asks once about an operation, and shows the request (secrets masked), the answer,\n" +
			"what became of each rule, and the verdict. Exit 0 if the answer says how the\n" +
			"operation is, else 1.\n\n" +
			"The credential is " + tryToken + ", or what --token-file holds: an API token; for\n" +
			"basic and oauth2_client NAME:SECRET; for google_service_account the key's JSON.",
		Example: "  export " + tryToken + "=ghp_...\n" +
			"  relay sources try github.run --param owner=octocat --param repo=hello \\\n" +
			"    --operation-id 30433642",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := load(c, env, sourceSettings)
			if err != nil {
				return err
			}
			s, err := sourceNamed(cfg.sources, args[0])
			if err != nil {
				return err
			}
			poll, err := of.poll(s, env)
			if err != nil {
				return err
			}
			client := source.NewClient(source.Config{Version: version})
			defer client.Close()
			result := client.Try(c.Context(), poll)
			if err := showTrial(c.OutOrStdout(), cfg.sources.File(s.Upstream.Name), result); err != nil {
				return err
			}
			if !result.Answer.Verdict.Known() {
				return failed(errors.New("the answer does not say how the operation is"))
			}
			return nil
		},
	}
	c.Flags().StringVar(&of.operationID, "operation-id", "", "the operation's id")
	c.Flags().StringToStringVar(&of.params, "param", nil, "NAME=VALUE of one of the source's parameters (may be repeated)")
	c.Flags().StringVar(&of.tokenFile, "token-file", "", "file with the credential, instead of "+tryToken)
	addSettings(c, sourceSettings)
	return c
}

// poll is the question that the command line asks. The error names every fault.
func (t trial) poll(s *source.Source, env environment) (source.Poll, error) {
	var faults []error
	wrong := s.Check(t.operationID, t.params)
	for _, name := range slices.Sorted(maps.Keys(wrong)) {
		flag := "--param " + name
		if name == "operation_id" {
			flag = "--operation-id"
		}
		faults = append(faults, fmt.Errorf("%s %s", flag, wrong[name]))
	}
	token := env[tryToken]
	if t.tokenFile != "" {
		text, err := os.ReadFile(t.tokenFile)
		token, faults = string(text), append(faults, err)
	}
	p := source.Poll{Source: s, Params: t.params, OperationID: t.operationID}
	p.Credential.Fields = s.Upstream.FieldsOf(strings.TrimSpace(token))
	return p, errors.Join(faults...)
}

// showTrial prints what was asked, what came back and how it was read.
func showTrial(w io.Writer, file string, t source.Trial) error {
	if t.URL != "" {
		fmt.Fprintf(w, "GET %s\n", t.URL)
		showHeaders(w, t.Request)
	}
	if t.Answer.HTTPStatus != 0 {
		fmt.Fprintf(w, "\nHTTP %d\n", t.Answer.HTTPStatus)
		showHeaders(w, t.Header)
		fmt.Fprintf(w, "  %s\n", cmp.Or(t.Body, "(no body)"))
	}
	if len(t.Rules) > 0 {
		fmt.Fprintln(w, "\nRules, the first that matches counts:")
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, tried := range t.Rules {
		became := tried.Why
		if tried.Matched {
			became = "MATCHED"
		}
		fmt.Fprintf(table, "  %s:%d\t%s\t%s\n", file, tried.Rule.Line, tried.Rule.As, became)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	showVerdict(w, t.Answer)
	return nil
}

func showHeaders(w io.Writer, h http.Header) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		fmt.Fprintf(w, "  %s: %s\n", name, strings.Join(h[name], ", "))
	}
}

func showVerdict(w io.Writer, a source.Answer) {
	fmt.Fprintf(w, "\n%s\n", a.Verdict)
	if a.HTTPStatus != 0 && a.Rule < 0 && a.Detail == "" {
		fmt.Fprintln(w, "  no rule matched: 401 and 403 are refused, 404 and 410 not_found, 429 limited, all else inconclusive")
	}
	completed, left := "", ""
	if !a.CompletedAt.IsZero() {
		completed = a.CompletedAt.Format(time.RFC3339Nano)
	}
	if a.Left != nil {
		left = fmt.Sprintf("%d requests", a.Left.Remaining)
		if a.Left.Reset > 0 {
			left += ", anew in " + a.Left.Reset.String()
		}
	}
	wait := ""
	if a.RetryAfter > 0 {
		wait = a.RetryAfter.String()
	}
	for _, fact := range [][2]string{
		{"upstream status", a.UpstreamStatus},
		{"error", a.Error},
		{"completed at", completed},
		{"problem", a.Problem},
		{"detail", a.Detail},
		{"next poll after", wait},
		{"left of the quota", left},
	} {
		if fact[1] != "" {
			fmt.Fprintf(w, "  %s: %s\n", fact[0], printable(fact[1]))
		}
	}
}

// printable keeps what an upstream wrote from moving the terminal's cursor.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
