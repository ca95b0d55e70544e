package deploy_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the program is built from reaches the image's builder, which sees only
// what .dockerignore lets through.
func TestImageGetsEveryFolderThatTheProgramNeeds(t *testing.T) {
	t.Parallel()
	ignored, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	let := strings.Split(string(ignored), "\n")
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", module+"/cmd/relay")
	list.Stderr = t.Output()
	printed, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for dependency := range strings.FieldsSeq(string(printed)) {
		if path, ours := strings.CutPrefix(dependency, module+"/"); ours {
			if folder, _, _ := strings.Cut(path, "/"); !slices.Contains(let, "!"+folder) {
				t.Errorf(".dockerignore keeps %s out, which %s is in", folder, dependency)
			}
		}
	}
}

// The image is built with the Go version that go.mod asks for.
func TestImageIsBuiltWithTheModulesGo(t *testing.T) {
	t.Parallel()
	asked := versionIn(t, "../go.mod", `(?m)^go (\d+\.\d+)`)
	if got := versionIn(t, "Dockerfile", `(?m)^FROM .*\bgolang:(\d+\.\d+)`); got != asked {
		t.Errorf("Dockerfile has Go %s, go.mod %s", got, asked)
	}
}

func versionIn(t *testing.T, file, pattern string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(pattern).FindSubmatch(content)
	if match == nil {
		t.Fatalf("%s has nothing like %s", file, pattern)
	}
	return string(match[1])
}
