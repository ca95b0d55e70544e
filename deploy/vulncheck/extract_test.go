package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExtractKeepsFactsAboutWhatIsUsed(t *testing.T) {
	t.Parallel()
	clone := cloneOf(t, map[string]string{
		"GO-2026-0001": `{"id":"GO-2026-0001","summary":"Words","details":"More words.","credits":[{"name":"Somebody"}],
			"affected":[{"package":{"name":"example.com/used","ecosystem":"Go"},
				"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1.2.3"}]}],
				"ecosystem_specific":{"imports":[{"path":"example.com/used/p","goos":["linux"],"symbols":["F"]}]}},
				{"package":{"name":"example.com/fork","ecosystem":"Go"},
				"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],"ecosystem_specific":{}}],
			"references":[{"type":"WEB","url":"https://example.com"}],
			"database_specific":{"url":"https://pkg.go.dev/vuln/GO-2026-0001","review_status":"REVIEWED"}}`,
		"GO-2026-0002": `{"id":"GO-2026-0002","affected":[{"package":{"name":"example.com/other","ecosystem":"Go"},
			"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1.0.0"},{"introduced":"2.0.0"}]}]}]}`,
		"GO-2026-0003": `{"id":"GO-2026-0003","withdrawn":"2026-01-02T03:04:05Z","affected":[{"package":{"name":"stdlib","ecosystem":"Go"}}]}`,
		"GO-2026-0004": `{"id":"GO-2026-0004","affected":[
			{"package":{"name":"example.com/other","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1.0.0"}]}]},
			{"package":{"name":"example.com/other","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"3.0.0"}]}]}]}`,
	})
	folder := t.TempDir()
	sum := filepath.Join(folder, "go.sum")
	write(t, sum, "example.com/used v1.0.0 h1:x=\nexample.com/used v1.0.0/go.mod h1:x=\n")
	write(t, filepath.Join(folder, entriesFolder, "GO-2020-0001.json"), "an old one")
	if err := extract(t.Context(), clone, folder, []string{sum}); err != nil {
		t.Fatal(err)
	}

	want := map[string]string{
		indexFile: `{"modified":"2026-08-21T20:38:00Z"}`,
		modulesFile: `[{"path":"example.com/fork","vulns":[{"id":"GO-2026-0001"}]},` +
			`{"path":"example.com/other","vulns":[{"id":"GO-2026-0002"},{"id":"GO-2026-0004"}]},` +
			`{"path":"example.com/used","vulns":[{"id":"GO-2026-0001"}]}]`,
		entriesFolder + "/GO-2026-0001.json": `{"id":"GO-2026-0001","summary":"GO-2026-0001",` +
			`"affected":[{"package":{"name":"example.com/used","ecosystem":"Go"},` +
			`"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1.2.3"}]}],` +
			`"ecosystem_specific":{"imports":[{"path":"example.com/used/p","goos":["linux"],"symbols":["F"]}]}},` +
			`{"package":{"name":"example.com/fork","ecosystem":"Go"},` +
			`"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],"ecosystem_specific":{}}],` +
			`"database_specific":{"url":"https://pkg.go.dev/vuln/GO-2026-0001"}}`,
	}
	got := map[string]string{}
	for _, name := range []string{indexFile, modulesFile} {
		got[name] = compact(t, filepath.Join(folder, name))
	}
	kept, err := filepath.Glob(filepath.Join(folder, entriesFolder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kept {
		got[entriesFolder+"/"+filepath.Base(name)] = compact(t, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the extract, - wanted, + is:\n%s", diff)
	}
}

func TestExtractOfWhatIsNoClone(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	entry := filepath.Join(folder, entriesFolder, "GO-2020-0001.json")
	write(t, entry, "kept")
	if err := extract(t.Context(), t.TempDir(), folder, nil); err == nil {
		t.Error("no error")
	}
	if read(t, entry) != "kept" {
		t.Error("the old extract is gone")
	}
}

// The extract in the project has a date and every entry about Go itself.
func TestExtractInTheProject(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(projectFolder, extractFolder)
	if _, err := extractModified(folder); err != nil {
		t.Error(err)
	}
	var modules []moduleIndex
	if err := json.Unmarshal([]byte(read(t, filepath.Join(folder, modulesFile))), &modules); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, m := range modules {
		if m.Path != "stdlib" && m.Path != "toolchain" {
			continue
		}
		for _, v := range m.Vulns {
			checked++
			if _, err := os.Stat(filepath.Join(folder, entriesFolder, v.ID+".json")); err != nil {
				t.Error(err)
			}
		}
	}
	if checked < 100 { // there were 200 in 2026, and they only grow
		t.Errorf("%d entries about Go itself", checked)
	}
}

// cloneOf makes a repository that holds the entries as github.com/golang/vulndb does.
func cloneOf(t *testing.T, entries map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for id, content := range entries {
		write(t, filepath.Join(folder, "data/osv", id+".json"), content)
	}
	write(t, filepath.Join(folder, "data/osv/README"), "no entry")
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"add", "."},
		{"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "-m", "entries"},
	} {
		command := exec.CommandContext(t.Context(), "git", args...)
		command.Dir, command.Stderr = folder, t.Output()
		command.Env = append(command.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_COMMITTER_DATE=2026-08-21T13:38:00-07:00")
		if err := command.Run(); err != nil {
			t.Fatalf("git %s: %v", args[0], err)
		}
	}
	return folder
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// compact is a JSON file's content without its white space.
func compact(t *testing.T, name string) string {
	t.Helper()
	var short bytes.Buffer
	if err := json.Compact(&short, []byte(read(t, name))); err != nil {
		t.Fatal(err)
	}
	return short.String()
}
