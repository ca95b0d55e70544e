// Package testenv gives tests real servers: a Redis, an empty PostgreSQL
// database, and a mock server made from an OpenAPI document, throwaway and
// private to the test that asks.
//
// The servers are ordinary redis-server and postgres programs that the package
// finds on the machine, starts on 127.0.0.1 and stops again; nothing needs to
// be configured or running. RELAY_TEST_DATABASE_URL names a PostgreSQL server that
// runs already.
//
// Where a server is neither given nor installed the test is skipped with a
// message that says what to install. With CI=true it fails instead, so that no
// gate is ever green because nothing ran.
package testenv

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

const (
	databaseURLVariable = "RELAY_TEST_DATABASE_URL"

	loopback = "127.0.0.1"
)

// unavailable ends a test whose server is not there: skipped on a developer's
// machine, failed where CI=true.
func unavailable(t testing.TB, server string) {
	t.Helper()
	const hint = "%s is not installed: `make test` or deploy/install-test-servers.sh installs it"
	if ci, err := strconv.ParseBool(os.Getenv("CI")); err == nil && ci {
		t.Fatalf(hint, server)
	}
	t.Skipf(hint, server)
}

// Need ends a test on a machine that lacks a program, as the package says.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			unavailable(t, program)
		}
	}
}

// Main runs the tests of a package that starts programs, and returns the exit
// code. So many run at once, unless -parallel says otherwise: they wait for other
// processes more than they compute. The folder, which is the tests' own, is there
// for what they build, and goes afterwards.
func Main(m *testing.M, parallel int, folder *string) int {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", strconv.Itoa(parallel))
	}
	var err error
	if *folder, err = os.MkdirTemp("", "relay-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(*folder) }()
	return m.Run()
}
