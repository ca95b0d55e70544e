package main

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"oprelay/deploy/testenv"
)

// testVersion and testCommit are linked into the program under test.
const (
	testVersion = "1.2.3-test"
	testCommit  = "0123456789abcdef"
)

// binaryFolder holds the program under test; it goes with the test process.
var binaryFolder string

// relayBinary builds the program once, at the first call; chaosBinary the one whose
// clock can be set.
var (
	relayBinary = sync.OnceValues(func() (string, error) { return buildRelay("relay") })
	chaosBinary = sync.OnceValues(func() (string, error) { return buildRelay("relay-chaos", "-tags", "chaos") })
)

// parallel is how many tests run at once.
const parallel = 8

func TestMain(m *testing.M) { os.Exit(testenv.Main(m, parallel, &binaryFolder)) }

func buildRelay(name string, arguments ...string) (path string, err error) {
	path = filepath.Join(binaryFolder, name)
	arguments = append(arguments, "-ldflags", "-X main.version="+testVersion+" -X main.commit="+testCommit, ".")
	return path, testenv.Build(path, arguments...)
}

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
	code := run(ctx, args, env, &stdout, &stderr)
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
