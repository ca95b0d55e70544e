package deploy_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the Markdown files name exists: files, make targets, settings, commands.
func TestDocsNameWhatExists(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	variables := relayOutput(t, "config", "variables")
	commands := relayOutput(t, "--help")
	for _, path := range markdown(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range matches(`\]\(([^)#:]+)[^):]*\)`, text) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", path, target)
			}
		}
		for _, target := range matches("(?m)(?:^    |`)make ([a-z]+)", text) {
			if !strings.Contains(string(makefile), "\n"+target+":") {
				t.Errorf("%s names make %s, which the Makefile has not", path, target)
			}
		}
		for _, name := range matches(`\b(RELAY_[A-Z_]+[A-Z])\b`, text) {
			if !slices.Contains(strings.Fields(variables), name) && !documentedElsewhere(name) {
				t.Errorf("%s names %s, which the program does not know", path, name)
			}
		}
		for _, name := range matches("(?m)(?:^    \\./|^    |`)relay ([a-z]+)", text) {
			if !strings.Contains(commands, "\n  "+name+" ") && name != "help" {
				t.Errorf("%s names relay %s, which the program has not", path, name)
			}
		}
	}
}

// What the API's document tells receivers of the defaults is so.
func TestTheDocumentTellsTheDefaults(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(document)), " ")
	environment := relayOutput(t, "help", "environment")
	for name, told := range map[string]struct{ lead, value string }{
		"RELAY_RETRY_SCHEDULE":   {"nine times: ", "5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h"},
		"RELAY_DELIVERY_TIMEOUT": {"within ", "15 s"},
		"RELAY_DISABLE_AFTER":    {"for ", "120 h"},
	} {
		_, about, _ := strings.Cut(environment, name+"\n")
		defaults := matches(`default: (\S+)`, []byte(about))
		value := strings.NewReplacer("min", "m", " and ", ",", ", ", ",", " ", "").Replace(told.value)
		if len(defaults) == 0 || value != defaults[0] || !strings.Contains(text, told.lead+told.value) {
			t.Errorf("%s is %q; the document should say %q", name, defaults, told)
		}
	}
}

// documentedElsewhere are variables of the tests and of the reader's own shell.
func documentedElsewhere(name string) bool {
	return strings.HasPrefix(name, "RELAY_TEST_") || strings.HasPrefix(name, "RELAY_CHAOS_") ||
		slices.Contains([]string{"RELAY_TRY_TOKEN", "RELAY_PORT", "RELAY_SERVICE_HOST"}, name) // the last are Kubernetes's
}

// relayOutput runs the program from its source, with -race because that is how
// its packages have been compiled for the other tests.
func relayOutput(t *testing.T, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"run", "-race", module + "/cmd/relay"}, args...)...)
	command.Stderr = t.Output()
	out, err := command.Output()
	if err != nil {
		t.Fatalf("relay %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

func markdown(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && slices.Contains([]string{".bin", ".git", "node_modules"}, entry.Name()) {
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 5 {
		t.Fatalf("%d Markdown files: %v", len(files), err)
	}
	return files
}

func matches(pattern string, text []byte) []string {
	var found []string
	for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
		found = append(found, string(m[1]))
	}
	return found
}
