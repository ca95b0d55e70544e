package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"oprelay/storage"
	"oprelay/storage/seal"
)

const (
	// resealPasses limits the passes over all rows, while other processes still seal
	// under another key.
	resealPasses = 10
	// progressEvery is the number of rows between two lines of progress in a pipe.
	progressEvery = 10000
	// mostNamed is how many rows are named for each reason. Without its key a whole
	// database cannot be opened.
	mostNamed = 3
)

func newKeysNewEncryption() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "new-encryption", Args: cobra.NoArgs,
		Short: "Make an encryption key, alone on stdout or first in a key file",
		Long: `Makes an encryption key, ID:BASE64, and prints it alone on stdout: put it first in
RELAY_ENCRYPTION_KEYS, before a comma and the keys that are there. With --file it
is put first in that key file instead (relay.key, beside a SQLite database), and
not printed. It seals from the next start of each process on; relay keys
rotate-encryption then seals anew what is there.`,
		Example: "  relay keys new-encryption\n  relay keys new-encryption --file relay.key",
		RunE: func(c *cobra.Command, _ []string) error {
			if !c.Flags().Changed("file") {
				fmt.Fprintln(c.OutOrStdout(), seal.NewKey())
				return nil
			}
			id, err := addToKeyFile(c.Context(), file)
			if err != nil {
				return failed(err)
			}
			fmt.Fprintf(c.OutOrStdout(),
				"the key %s is the first of %s now: restart the relay, then run relay keys rotate-encryption\n", id, file)
			return nil
		},
	}
	c.Flags().StringVar(&file, "file", "", "a key file that exists; the new key goes before those in it")
	return c
}

func newKeysRotateEncryption(env environment) *cobra.Command {
	var forget bool
	c := &cobra.Command{
		Use: "rotate-encryption", Args: cobra.NoArgs,
		Short: "Seal every secret under the first encryption key, while the relay runs",
		Long: `Seals everything that is sealed in the database under the first of the encryption
keys, while API and workers run and change it. To change the key:

  1. Make a new one (relay keys new-encryption) and put it first in the list of
     every process, the old ones behind it. Restart them all. One that is not yet
     restarted cannot open what the others seal; it comes back to it later.
  2. Run this, with the same list.
  3. When it says that nothing is sealed under the old key any more, take that key
     out of the list and restart again. Keep it with the backups made before.

It may be stopped or killed at any moment, and run again. It goes over everything
until nothing is left to do, and says how many rows each key seals. What no key of
the list opens is counted, the first of it named, and left alone; exit 1.

With --forget-unopened the secrets of credentials and destinations that no key of
the list opens are erased, for when their key is lost for good: the relay starts
again without it, and they can be deleted and made anew.`,
		Example: "  relay keys rotate-encryption\n  RELAY_ENCRYPTION_KEYS=new:...,old:... relay keys rotate-encryption",
	}
	storeCommand(c, env, existing(openMigrated), func(ctx context.Context, store *storage.Store, _ []string) error {
		r := rotation{store: store, forget: forget, out: c.OutOrStdout(), progress: c.ErrOrStderr(), named: map[storage.SealedRow]bool{}}
		return r.run(ctx)
	})
	c.Flags().BoolVar(&forget, "forget-unopened", false, "erase the secrets that no key of the list opens")
	return c
}

// rotation seals everything anew, in passes, until one changes nothing.
type rotation struct {
	store         *storage.Store
	forget        bool
	out, progress io.Writer
	named         map[storage.SealedRow]bool // that cannot be opened
	resealed      int
	forgotten     int
	sealedBehind  int // under another key, where a pass had been already
}

func (r *rotation) run(ctx context.Context) error {
	var pass storage.ResealPass
	for n := range resealPasses {
		var err error
		pass, err = r.store.Reseal(ctx, storage.ResealOptions{Forget: r.forget, Progress: r.showProgress(n + 1)})
		if isTerminal(r.progress) {
			fmt.Fprint(r.progress, "\r\x1b[K")
		}
		r.note(n, pass)
		if err != nil {
			fmt.Fprintf(r.out, "%d rows are sealed under %s now; run this again for the rest\n", r.resealed, pass.Key)
			return err
		}
		if pass.Resealed+pass.Overtaken+pass.Forgotten == 0 {
			break
		}
	}
	r.summary(pass)
	return r.verdict(pass)
}

// note adds up a pass and names the first rows that it could not open, for each reason
// (which names the key). No row is named twice.
func (r *rotation) note(n int, pass storage.ResealPass) {
	r.resealed += pass.Resealed
	r.forgotten += pass.Forgotten
	if n > 0 {
		r.sealedBehind += pass.Resealed
	}
	rows := map[string][]string{}
	for _, row := range pass.Unopened {
		if !r.named[row.SealedRow] {
			r.named[row.SealedRow] = true
			rows[row.Err.Error()] = append(rows[row.Err.Error()], row.String())
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(r.out, "%s: %s\n", few(rows[reason]), reason)
	}
}

// few names the first of the rows, and how many more there are.
func few(rows []string) string {
	if len(rows) <= mostNamed {
		return strings.Join(rows, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(rows[:mostNamed], ", "), len(rows)-mostNamed)
}

// showProgress shows how many rows were seen: in place on a terminal, a line now
// and then in a pipe.
func (r *rotation) showProgress(pass int) func(rows int) {
	live, said := isTerminal(r.progress), 0
	return func(rows int) {
		switch {
		case live:
			fmt.Fprintf(r.progress, "\rpass %d: %d rows", pass, rows)
		case rows-said >= progressEvery:
			said = rows
			fmt.Fprintf(r.progress, "pass %d: %d rows\n", pass, rows)
		}
	}
}

func (r *rotation) summary(pass storage.ResealPass) {
	fmt.Fprintf(r.out, "sealed anew under %s: %s\n", pass.Key, rowCount(r.resealed))
	if r.forgotten > 0 {
		fmt.Fprintf(r.out, "erased, for no key opens them: the secrets of %s; delete these and make them anew\n", rowCount(r.forgotten))
	}
	for _, id := range slices.Sorted(maps.Keys(pass.PerKey)) {
		name := id
		if id == "" {
			name = "no key of the relay's"
		}
		fmt.Fprintf(r.out, "sealed under %s: %s\n", name, rowCount(pass.PerKey[id]))
	}
	for _, id := range pass.Unused {
		fmt.Fprintf(r.out, "sealed under %s: nothing", id)
		if r.sealedBehind == 0 && pass.Resealed+pass.Overtaken == 0 {
			fmt.Fprintf(r.out, "; once every process runs with %s first, take it out of the list, "+
				"and keep it with the backups made before", pass.Key)
		}
		fmt.Fprintln(r.out)
	}
}

// verdict is why the work is not done, nil if it is.
func (r *rotation) verdict(pass storage.ResealPass) error {
	var faults []error
	if r.sealedBehind > 0 {
		faults = append(faults, fmt.Errorf("a process still seals under another key than %s (%s since this began): "+
			"restart it with the new list, then run this again", pass.Key, rowCount(r.sealedBehind)))
	} else if pass.Overtaken > 0 {
		faults = append(faults, errors.New("rows change faster than they can be sealed: run this again"))
	}
	if unopened := len(pass.Unopened) - pass.Forgotten; unopened > 0 {
		faults = append(faults, fmt.Errorf(
			"no key of the list opens %s, see above: run this again with the key that is missing", rowCount(unopened)))
	}
	return errors.Join(faults...)
}

func rowCount(n int) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}
