package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "oprelay"

// knows says which of our packages a folder's packages may import beside those
// of their own folder; the innermost folder counts. Whatever is not listed here
// has no place yet. Tests may import more, to build on real parts.
var knows = map[string][]string{
	"api":             {"storage", "notifier"},
	"cmd":             {"api", "jobs", "notifier", "storage"},
	"cmd/bench":       {"api/client", "deploy/testenv", "notifier", "storage"},
	"deploy":          {},
	"jobs":            {"storage", "notifier"},
	"jobs/cloudflare": {"jobs/source"},
	"jobs/deliver":    {"jobs/loglimit", "jobs/pipeline", "notifier", "storage"},
	"jobs/loglimit":   {"storage"},
	"jobs/pipeline":   {},
	"jobs/poll":       {"jobs/cloudflare", "jobs/pipeline", "jobs/source", "storage"},
	"jobs/source":     {},
	"jobs/wake":       {},
	"migrations":      {},
	"notifier":        {},
	"storage":         {"migrations"},
	"storage/seal":    {},
	"storage/sqldb":   {},
}

// owners says which folders alone may import a library, or a package of ours, tests included.
var owners = map[string][]string{
	"github.com/chromedp":     {"deploy/testenv/browser"},
	"github.com/compose-spec": {"deploy"},
	"github.com/go-analyze":   {"cmd/bench/chart"},
	// A mirror of the standard library's encoding/json/v2, until that is in the Go we build with.
	"github.com/go-json-experiment/json": {"api", "jobs/source"},
	"github.com/hibiken/asynq":           {"jobs/wake", "cmd/bench/limit"},
	"github.com/jackc/pgx":               {"storage/sqldb"},
	"github.com/labstack/echo":           {"api"},
	"github.com/pressly/goose":           {"storage", "migrations"},
	"github.com/slack-go/slack":          {"notifier"},
	// Who makes spans knows OpenTelemetry's API; what becomes of them is cmd's.
	"go.opentelemetry.io/otel":           {"api", "jobs", "cmd"},
	"go.opentelemetry.io/otel/exporters": {"cmd"},
	"go.opentelemetry.io/otel/sdk":       {"cmd"},
	"go.opentelemetry.io/proto":          {"cmd"},
	"golang.org/x/oauth2":                {"jobs/source"},
	"modernc.org/sqlite":                 {"storage/sqldb"},
	module + "/storage/sqldb":            {"storage", "cmd/bench"},
}

// A package imports only what its place allows.
func TestWhoKnowsWhom(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		folder := strings.TrimPrefix(p.ImportPath, module+"/")
		place, ok := placeOf(folder)
		if !ok {
			t.Errorf("%s has no place among those that this test knows", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			theirs, ours := strings.CutPrefix(imported, module+"/")
			if ours && !withinAny(theirs, place) && !withinAny(theirs, knows[place]...) {
				t.Errorf("%s imports %s; %s may know only %q", p.ImportPath, imported, place, knows[place])
			}
		}
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for library, folders := range owners {
				if strings.HasPrefix(imported, library) && !withinAny(folder, folders...) {
					t.Errorf("%s imports %s, which belongs to %q", p.ImportPath, imported, folders)
				}
			}
		}
	}
}

// Every package says once what it is about.
func TestPackagesAreDocumentedOnce(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		var documented []string
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Error(err)
				continue
			}
			if file.Doc.Text() != "" && !ast.IsGenerated(file) { // generators write one of their own
				documented = append(documented, name)
			}
		}
		if len(p.GoFiles) > 0 && len(documented) != 1 {
			t.Errorf("%s has package comments in %q, want exactly one", p.ImportPath, documented)
		}
	}
}

// goPackage is what `go list -json` tells of a package.
type goPackage struct {
	ImportPath, Dir                             string
	GoFiles, Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-json", module+"/...")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	printed, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(printed)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// placeOf returns the innermost of the known folders that the folder is in.
func placeOf(folder string) (place string, ok bool) {
	for known := range knows {
		if withinAny(folder, known) && len(known) > len(place) {
			place = known
		}
	}
	return place, place != ""
}

// withinAny reports whether the folder is one of the others or below one.
func withinAny(folder string, others ...string) bool {
	return slices.ContainsFunc(others, func(other string) bool {
		return folder == other || strings.HasPrefix(folder, other+"/")
	})
}
