package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oprelay/api/client"
)

const (
	defaultSource = "cloudflare.lists"
	// accountParam is the parameter that --account is short for.
	accountParam = "account_id"
	// listed is how many rows are read to tell what there is.
	listed = 200
)

// watchFlags are what the command line says of a watch.
type watchFlags struct {
	source, account, credential, name string
	params, destinations, metadata    []string
	timeout                           time.Duration
	follow, asJSON                    bool
}

func newWatch(env environment) *cobra.Command {
	var given watchFlags
	c := &cobra.Command{
		Use: "watch OPERATION_ID", Args: oneArgument("the id of the operation"),
		Short: "Register a watch, and print its id",
		Long: `Registers a watch through the API and prints its id, alone, on stdout. Without
--destination nobody is told how the operation ends but those who wait or listen.

With --wait it follows the watch as relay wait does. ` + exitCodes,
		Example: "  relay watch \"$OPERATION\" --account \"$ACCOUNT\" --wait\n" +
			"  relay watch \"$RUN\" --source github.run --param owner=me --param repo=web\n" +
			"  ID=$(relay watch \"$OPERATION\" --account \"$ACCOUNT\" --metadata deploy=42)",
		RunE: func(c *cobra.Command, args []string) error { return given.run(c, env, args[0]) },
	}
	given.addTo(c)
	addSettings(c, clientSettings)
	return c
}

func (g *watchFlags) addTo(c *cobra.Command) {
	c.Flags().StringVar(&g.source, "source", defaultSource, "the kind of operation, see relay sources list")
	c.Flags().StringVar(&g.account, "account", "", "the operation's account; short for --param account_id=ID")
	c.Flags().StringArrayVar(&g.params, "param", nil, "`NAME=VALUE` that the source needs to find the operation (may be repeated)")
	c.Flags().StringVar(&g.credential, "credential", "", "id of the credential to poll with; the only one for the source if there is but one")
	c.Flags().StringArrayVar(&g.destinations, "destination", nil, "id of a destination to tell (may be repeated)")
	c.Flags().DurationVar(&g.timeout, "timeout", 24*time.Hour, "how long to watch, from 1m to 720h")
	c.Flags().StringVar(&g.name, "name", "", "the watch's title in Slack and the console")
	c.Flags().StringArrayVar(&g.metadata, "metadata", nil, "`KEY=VALUE` to pass on in the event (may be repeated)")
	c.Flags().BoolVar(&g.follow, "wait", false, "wait until it has ended, and exit with how")
	c.Flags().BoolVar(&g.asJSON, "json", false, "print the watch as JSON instead of its id; with --wait when it has ended")
}

func (g *watchFlags) run(c *cobra.Command, env environment, operationID string) error {
	wanted, err := g.watch(operationID)
	if err != nil {
		return err
	}
	view := newProgress(c.ErrOrStderr(), env)
	conn, err := connect(c, env, view.say)
	if err != nil {
		return err
	}
	made, err := conn.register(c.Context(), wanted)
	if err != nil && c.Context().Err() != nil {
		return fmt.Errorf("interrupted; the watch may have been registered: see %s/watches", conn.url)
	}
	if err != nil {
		return err
	}
	view.say("Watching " + title(made.watch))
	w := &wait{
		connection: conn, view: view, stdout: c.OutOrStdout(), asJSON: g.asJSON, id: made.watch.ID,
		began: time.Now(), // so it says no more than that it watches
	}
	if err := w.printRegistered(made, g.follow); err != nil || !g.follow {
		return err
	}
	return w.follow(c.Context())
}

// watch is what the flags ask for. The error names every fault.
func (g *watchFlags) watch(operationID string) (client.NewWatch, error) {
	params, paramsErr := pairs("--param", g.params)
	metadata, metadataErr := pairs("--metadata", g.metadata)
	faults := []error{paramsErr, metadataErr}
	if account, given := params[accountParam]; given {
		if g.account != "" && g.account != account {
			faults = append(faults, errors.New("--account and --param account_id differ: give one of them"))
		}
		g.account = account
		delete(params, accountParam)
	}
	if g.timeout <= 0 || g.timeout%time.Second != 0 {
		faults = append(faults, errors.New("--timeout: want whole seconds, from 1m to 720h"))
	}
	wanted := client.NewWatch{
		Source: &g.source, OperationID: operationID,
		CredentialID: g.credential, DestinationIds: g.destinations, TimeoutSeconds: new(int(g.timeout / time.Second)),
	}
	if g.destinations == nil {
		wanted.DestinationIds = []string{}
	}
	if g.account != "" {
		wanted.AccountID = &g.account
	}
	if len(params) > 0 {
		wanted.Params = (*client.Params)(&params)
	}
	if g.name != "" {
		wanted.Name = &g.name
	}
	if len(metadata) > 0 {
		wanted.Metadata = (*client.Metadata)(&metadata)
	}
	return wanted, errors.Join(faults...)
}

// pairs reads NAME=VALUE, each name once.
func pairs(flag string, given []string) (map[string]string, error) {
	read := map[string]string{}
	var faults []error
	for _, pair := range given {
		name, value, ok := strings.Cut(pair, "=")
		_, twice := read[name]
		switch {
		case !ok || name == "":
			faults = append(faults, fmt.Errorf("%s %q: want NAME=VALUE", flag, pair))
		case twice:
			faults = append(faults, fmt.Errorf("%s %s is given twice", flag, name))
		}
		read[name] = value
	}
	return read, errors.Join(faults...)
}

// registration is a watch that was made, and the API's answer as it came.
type registration struct {
	watch client.Watch
	body  []byte
}

// register makes the watch, once, however often its answer is lost.
func (c *connection) register(ctx context.Context, wanted client.NewWatch) (made registration, err error) {
	if wanted.CredentialID == "" {
		if wanted.CredentialID, err = c.onlyCredential(ctx, *wanted.Source); err != nil {
			return made, err
		}
	}
	if wanted.AccountID == nil && strings.HasPrefix(*wanted.Source, "cloudflare.") {
		return made, c.noAccount(ctx)
	}
	once := client.CreateWatchParams{IdempotencyKey: new(rand.Text())}
	made.body, err = c.ask(ctx, func(ctx context.Context) (*http.Response, error) {
		return c.api.CreateWatch(ctx, &once, wanted)
	}, &made.watch)
	return made, err
}

// onlyCredential is the tenant's credential for the upstream of the source, if there is but one. Otherwise the error
// lists what there is.
func (c *connection) onlyCredential(ctx context.Context, source string) (id string, err error) {
	upstream, _, _ := strings.Cut(source, ".")
	var found client.CredentialList
	if _, err := c.ask(ctx, func(ctx context.Context) (*http.Response, error) {
		return c.api.ListCredentials(ctx, &client.ListCredentialsParams{Limit: new(listed)})
	}, &found); err != nil {
		return "", err
	}
	usable := slices.DeleteFunc(found.Data, func(one client.Credential) bool { return one.Upstream != upstream })
	switch {
	case len(usable) == 1 && found.NextCursor == nil:
		return usable[0].ID, nil
	case len(usable) == 0 && found.NextCursor == nil:
		return "", fmt.Errorf("there is no credential for %s to poll with: make one first with POST /v1/credentials, see %s/docs",
			upstream, c.url)
	}
	lines := []string{"--credential: there are several, give one of"}
	for _, one := range usable {
		lines = append(lines, fmt.Sprintf("  %s  %s (%s)", one.ID, plain(one.Name), one.Status))
	}
	if found.NextCursor != nil {
		lines = append(lines, "  and older ones")
	}
	return "", errors.New(strings.Join(lines, "\n"))
}

// noAccount is an error that lists the accounts of the latest watches.
func (c *connection) noAccount(ctx context.Context) error {
	var found client.WatchList
	if _, err := c.ask(ctx, func(ctx context.Context) (*http.Response, error) {
		return c.api.ListWatches(ctx, &client.ListWatchesParams{Limit: new(listed)})
	}, &found); err != nil {
		return err
	}
	accounts := map[string]bool{}
	for _, one := range found.Data {
		if account := one.Operation.AccountID; account != nil {
			accounts[*account] = true
		}
	}
	if len(accounts) == 0 {
		return errors.New("--account: give the id of the account that the operation belongs to")
	}
	return errors.New("--account: give the id of the account that the operation belongs to. The latest watches are of\n  " +
		strings.Join(slices.Sorted(maps.Keys(accounts)), "\n  "))
}

// watchCommand is the command that watches the operation of a watch again.
func watchCommand(w client.Watch) string {
	words := []string{"relay watch", quote(w.Operation.ID)}
	if w.Operation.Source != defaultSource {
		words = append(words, "--source", w.Operation.Source)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Operation.Params)) {
		if name == accountParam {
			words = append(words, "--account", quote(w.Operation.Params[name]))
			continue
		}
		words = append(words, "--param", quote(name+"="+w.Operation.Params[name]))
	}
	return strings.Join(append(words, "--credential", w.CredentialID), " ")
}

// quote is a word of a shell's command.
func quote(word string) string {
	if strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("-_./:=", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

// printRegistered prints the watch's id, or the watch, and what to do next unless it is followed.
func (w *wait) printRegistered(made registration, followed bool) (err error) {
	switch {
	case !w.asJSON:
		_, err = fmt.Fprintln(w.stdout, w.id)
	case !followed:
		err = printJSON(w.stdout, made.body)
	}
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	if !followed {
		w.say("  until:       " + made.watch.ExpiresAt.UTC().Format("2006-01-02 15:04 MST"))
		w.say("  see it:      " + w.watchURL(w.id))
		w.say("  wait for it: relay wait " + w.id + w.flags)
	}
	return nil
}

// printJSON prints an answer of the API as it is.
func printJSON(out io.Writer, body []byte) error {
	_, err := fmt.Fprintln(out, strings.TrimSpace(string(body)))
	return err
}
