package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

// testVersion and testCommit are linked into the program under test.
const (
	testVersion = "1.2.3-test"
	testCommit  = "0123456789abcdef"
)

// binaryFolder holds the program under test; it goes with the test process.
var binaryFolder string

// relayBinary builds the program once, at the first call.
var relayBinary = sync.OnceValues(buildRelay)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

// parallel is how many tests run at once unless -parallel says otherwise: they
// wait for other processes more than they compute.
const parallel = "8"

func runTests(m *testing.M) int {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", parallel)
	}
	var err error
	if binaryFolder, err = os.MkdirTemp("", "relay-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(binaryFolder) }()
	return m.Run()
}

// buildRelay has the race detector in the program if the tests have it.
func buildRelay() (path string, err error) {
	path = filepath.Join(binaryFolder, "relay")
	args := []string{"build", "-o", path, "-ldflags", "-X main.version=" + testVersion + " -X main.commit=" + testCommit}
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	printed, err := exec.Command("go", append(args, ".")...).CombinedOutput() //nolint:noctx // outlives the test that began it
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, printed)
	}
	return path, nil
}

// environment is what a relay under test has of it: nothing else gets through.
type environment map[string]string

// with is the environment with other values for some names.
func (e environment) with(pairs ...string) environment {
	both := maps.Clone(e)
	for i := 0; i+1 < len(pairs); i += 2 {
		both[pairs[i]] = pairs[i+1]
	}
	return both
}

// answer is what a command that ends by itself left.
type answer struct {
	code           int
	stdout, stderr string
}

// call runs the program within the test process, for as long as a start may take
// at most: what should refuse to start must not hold up the test if it does not.
func call(ctx context.Context, env environment, args ...string) answer {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, func(name string) string { return env[name] }, &stdout, &stderr)
	return answer{code, stdout.String(), stderr.String()}
}

// mention fails the test for each text that is not in what was printed.
func mention(t *testing.T, printed string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(printed, text) {
			t.Errorf("%q is not in:\n%s", text, printed)
		}
	}
}
