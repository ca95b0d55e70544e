package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"oprelay/api"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// defaultTenant owns the first key.
const defaultTenant = "default"

// createKey makes a key, and its tenant where there is none of that name.
func createKey(
	ctx context.Context, store *storage.Store, tenant, name string, scopes ...storage.Scope,
) (storage.Tenant, seal.Secret, error) {
	owner, err := store.EnsureTenant(ctx, tenant)
	if err != nil {
		return storage.Tenant{}, "", err
	}
	_, secret, err := store.CreateKey(ctx, storage.NewAPIKey{TenantID: owner.ID, Name: name, Scopes: scopes})
	return owner, secret, err
}

func newKeys(env environment) *cobra.Command {
	return newGroup("keys", "Create, list and revoke API keys; change the encryption key",
		newKeysCreate(env), newKeysList(env), newKeysRevoke(env),
		newKeysNewEncryption(), newKeysRotateEncryption(env))
}

func newKeysCreate(env environment) *cobra.Command {
	var tenant, name string
	var scopes []string
	c := &cobra.Command{
		Use: "create --tenant T --name N --scope S...", Args: cobra.NoArgs,
		Short: "Create an API key and print it, alone, on stdout",
		Long: "Creates an API key, and its tenant where there is none of that name. The key is\n" +
			"printed once, alone on stdout; only its hash is kept.",
		Example: "  relay keys create --tenant default --name deploys --scope write\n" +
			"  export RELAY_API_KEY=$(relay keys create --name me --scope admin)",
		PreRunE: func(*cobra.Command, []string) error {
			return errors.Join(checkName("--tenant", tenant), checkName("--name", name), checkScopes(scopes))
		},
	}
	storeCommand(c, env, existing(openMigrated), func(ctx context.Context, store *storage.Store, _ []string) error {
		granted := make([]storage.Scope, len(scopes))
		for i, s := range scopes {
			granted[i] = storage.Scope(s)
		}
		owner, secret, err := createKey(ctx, store, tenant, name, granted...)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.ErrOrStderr(), "created a key for tenant %q with scope %s; it is shown only now:\n",
			owner.Name, strings.Join(scopes, ", "))
		fmt.Fprintln(c.OutOrStdout(), string(secret))
		return nil
	})
	c.Flags().StringVar(&tenant, "tenant", defaultTenant, "whose key it is")
	c.Flags().StringVar(&name, "name", "", "what it is for")
	c.Flags().StringSliceVar(&scopes, "scope", []string{"write"}, "read, write (reads too) or admin (writes and manages keys too)")
	_ = c.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions(scopeNames(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

func scopeNames() []string {
	return []string{string(storage.ScopeRead), string(storage.ScopeWrite), string(storage.ScopeAdmin)}
}

// maxName is how many characters the API allows for the names of keys and others.
const maxName = 200

func checkName(flag, name string) error {
	if strings.TrimSpace(name) == "" || utf8.RuneCountInString(name) > maxName || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("%s: want 1 to %d characters on one line", flag, maxName)
	}
	return nil
}

func checkScopes(scopes []string) error {
	var faults []error
	if len(scopes) == 0 {
		faults = append(faults, fmt.Errorf("--scope: want at least one of %s", strings.Join(scopeNames(), ", ")))
	}
	for _, s := range scopes {
		if !slices.Contains(scopeNames(), s) {
			faults = append(faults, fmt.Errorf("--scope %q: want %s", s, strings.Join(scopeNames(), ", ")))
		}
	}
	return errors.Join(faults...)
}

func newKeysList(env environment) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List the API keys of all tenants", Args: cobra.NoArgs}
	storeCommand(c, env, existing(openMigrated), func(ctx context.Context, store *storage.Store, _ []string) error {
		keys, err := store.AllKeys(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return printKeysJSON(c, keys)
		}
		w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tTENANT\tNAME\tSCOPES\tCREATED\tLAST USED")
		for _, k := range keys {
			fmt.Fprintln(w, strings.Join([]string{
				k.ID, k.TenantName, k.Name, joinScopes(k.Scopes), timestamp(k.CreatedAt), timestamp(k.LastUsedAt),
			}, "\t"))
		}
		return w.Flush()
	})
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object on a line for each key")
	return c
}

func printKeysJSON(c *cobra.Command, keys []storage.Key) error {
	out := json.NewEncoder(c.OutOrStdout())
	for _, k := range keys {
		if err := out.Encode(shownKey(k)); err != nil {
			return err
		}
	}
	return nil
}

// tenantKey is a key as the API shows it, with its tenant, which the API need not name.
type tenantKey struct {
	api.Key

	Tenant string `json:"tenant"`
}

func shownKey(k storage.Key) tenantKey {
	shown := tenantKey{api.Key{ID: k.ID, Name: k.Name, Scopes: []api.Scope{}, CreatedAt: k.CreatedAt}, k.TenantName}
	for _, s := range k.Scopes {
		shown.Scopes = append(shown.Scopes, api.Scope(s))
	}
	if !k.LastUsedAt.IsZero() {
		shown.LastUsedAt = &k.LastUsedAt
	}
	return shown
}

func joinScopes(scopes []storage.Scope) string {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ",")
}

func timestamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

func newKeysRevoke(env environment) *cobra.Command {
	c := &cobra.Command{Use: "revoke ID", Short: "Revoke an API key, from now on", Args: cobra.ExactArgs(1)}
	return storeCommand(c, env, existing(openMigrated), func(ctx context.Context, store *storage.Store, args []string) error {
		err := store.RevokeKey(ctx, "", args[0])
		switch {
		case errors.Is(err, storage.ErrNotFound) && strings.HasPrefix(args[0], "relay_"):
			return errors.New("that is a key, and its id is wanted: relay keys list shows it")
		case errors.Is(err, storage.ErrNotFound):
			return fmt.Errorf("no key %s: relay keys list shows them", args[0])
		}
		return err
	})
}
