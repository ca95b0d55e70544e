// Command vulncheck runs govulncheck on the project and on its tools, and says
// which vulnerability database it asked, and of what date: the live one of the
// Go project or, where that cannot be reached, the extract in .tools/vulndb. It
// fails where it can ask neither. Run it in the project's folder.
//
//	vulncheck -extract CLONE
//
// makes the extract anew from a clone of github.com/golang/vulndb.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

const (
	liveURL = "https://vuln.go.dev"
	// toolsFolder is the module that pins govulncheck's version.
	toolsFolder = ".tools"
	// extractFolder holds the extract, in the layout of a database.
	extractFolder = toolsFolder + "/vulndb"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "vulncheck:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet("vulncheck", flag.ContinueOnError)
	flags.SetOutput(stderr)
	clone := flags.String("extract", "", "make "+extractFolder+" anew from this `clone` of github.com/golang/vulndb")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the arguments: %w", err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *clone != "" {
		return extract(ctx, *clone, extractFolder, []string{"go.sum", toolsFolder + "/go.sum"})
	}
	folder, err := filepath.Abs(extractFolder)
	if err != nil {
		return fmt.Errorf("find %s: %w", extractFolder, err)
	}
	db, err := choose(ctx, liveURL, folder, stdout)
	if err != nil {
		return err
	}
	return errors.Join(
		check(ctx, stdout, stderr, ".", "-test", "-db", db, "./..."),
		check(ctx, stdout, stderr, ".", "-C", toolsFolder, "-db", db, "tool"),
	)
}

// check runs govulncheck, with the arguments, in the project's folder. It fails
// for a vulnerable function that the code can reach, and for an entry that the
// database names and does not have.
func check(ctx context.Context, stdout, stderr io.Writer, project string, args ...string) error {
	args = append([]string{"tool", "-modfile=" + toolsFolder + "/go.mod", "govulncheck"}, args...)
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir, command.Stdout, command.Stderr = project, stdout, stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("govulncheck does not say that all is well: %w", err)
	}
	return nil
}
